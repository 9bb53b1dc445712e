"""The ceilings that ship in policies/ceilings: well formed, sourced, with real actions, and able to tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medley.cli.main import main
from medley.cli.policy_input import read_ceiling
from medley.policy.catalogue import catalogue
from medley.policy.ceilings import shipped_ceilings
from medley.policy.spec.spec import Rule

NAMES = ("aws-credentials", "aws-escalation", "aws-exfiltration")

OPERATOR = [
    {"Effect": "Allow", "Action": ["eks:DescribeCluster", "eks:ListNodegroups"],
     "Resource": "arn:aws:eks:us-east-1:111122223333:cluster/c"},
    {"Effect": "Allow", "Action": "autoscaling:SetDesiredCapacity",
     "Resource": "arn:aws:autoscaling:us-east-1:111122223333:autoScalingGroup:*:autoScalingGroupName/gpu-l4"},
]  # fmt: skip


def actions(rule: Rule) -> list[str]:
    return [item for statement in rule.statements for item in statement.action.items]


def test_the_shipped_ceilings_are_these() -> None:
    assert tuple(sorted(shipped_ceilings())) == (*NAMES, "kubernetes-danger")


@pytest.mark.parametrize("name", NAMES)
def test_each_row_names_its_source_and_actions_that_exist(name: str) -> None:
    rules = read_ceiling(name).ceiling
    known = catalogue()
    assert len(rules) == len({rule.id for rule in rules})
    for rule in rules:
        assert rule.source.startswith("https://"), rule.id
        assert all(known.get(action) is not None for action in actions(rule)), rule.id


def test_no_escalation_method_contains_another() -> None:
    methods = {rule.id: frozenset(actions(rule)) for rule in read_ceiling("aws-escalation").ceiling}
    assert len(methods) > 40
    for one, needed in methods.items():
        assert not any(other < needed for name, other in methods.items() if name != one), one


@pytest.fixture
def verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        'floor:\n- {id: d, action: "eks:DescribeCluster", resource: "arn:aws:eks:us-east-1:111122223333:cluster/c"}\n'
    )

    def run(statements: object, ceiling: str) -> tuple[int, dict[str, object]]:
        document = tmp_path / "document.json"
        document.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}))
        arguments = ["--document", str(document), "--spec", str(spec), "--ceiling", ceiling, "-o", "json"]
        code = main(["policy", "verify", *arguments])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_policy_is_inside_each_ceiling(verify, name: str) -> None:  # type: ignore[no-untyped-def]
    code, said = verify(OPERATOR, name)
    assert (code, said["verdict"]) == (0, "Satisfied")


@pytest.mark.parametrize("name", NAMES)
def test_an_administrator_breaks_every_row(verify, name: str) -> None:  # type: ignore[no-untyped-def]
    code, said = verify([{"Effect": "Allow", "Action": "*", "Resource": "*"}], name)
    assert (code, said["verdict"]) == (1, "Violated")
    broken = {witness["rule"] for witness in said["witnesses"]}
    assert broken == {rule.id for rule in read_ceiling(name).ceiling}


def test_pass_role_and_run_instances_together_are_a_method_and_either_alone_is_none(verify) -> None:  # type: ignore[no-untyped-def]
    for given, expected in (
        (["iam:PassRole"], 0),
        (["ec2:RunInstances"], 0),
        (["iam:PassRole", "ec2:RunInstances"], 1),
    ):
        code, _ = verify([*OPERATOR, {"Effect": "Allow", "Action": given, "Resource": "*"}], "aws-escalation")
        assert code == expected, given
