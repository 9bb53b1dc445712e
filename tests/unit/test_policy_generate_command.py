"""`medley policy generate`: what it prints in each form, and what it does not print."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.cli.main import main
from medley.cli.policy_input import looks_like_manifest
from policy_parts import ACCOUNT, ISSUER, KEY_ID

GOLDEN = Path(__file__).parents[1] / "golden" / "policy"
PLACE = ("--aws-account", ACCOUNT, "--region", "us-east-1", "--cluster", "prod")
IRSA = (*PLACE, "--oidc-issuer", ISSUER)
ACCESS: dict[str, Any] = {
    "serviceAccountName": "chat-engine",
    "modelUri": "s3://models/llama/8b",
    "cacheUri": "s3://scratch/chat",
    "kmsKeyArn": f"arn:aws:kms:us-east-1:{ACCOUNT}:{KEY_ID}",
    "imageRepositoryArn": f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/vllm/openai",
}

NODEGROUPS = ("--eks-pool", "l4=gpu-l4", "--eks-pool", "a10=gpu-a10/eks-a10")

Run = Any


def service(name: str = "chat", **access: Any) -> dict[str, Any]:
    spec = {"model": {"name": "m"}, "slo": {"timePerOutputTokenMs": 120}, "pools": ["l4"]}
    metadata = {"name": name, "namespace": "prod"}
    chosen = {key: value for key, value in {**ACCESS, **access}.items() if value is not None}
    return {
        "apiVersion": "medley.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": metadata,
        "spec": {**spec, "access": chosen},
    }


def pool(**scale: Any) -> dict[str, Any]:
    provider = {"scale": {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "name": "gpu", **scale}}
    spec = {"instanceType": "g6.xlarge", "provider": provider}
    return {"apiVersion": "medley.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": "l4"}, "spec": spec}


@pytest.fixture
def generate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, objects: Any = None) -> tuple[int, str, str]:
        file = tmp_path / "objects.yaml"
        file.write_text(yaml.safe_dump_all([service(), pool()] if objects is None else objects))
        code = main(["policy", "generate", "-f", str(file), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_json_has_documents_specs_verdicts_and_the_engines_of_each_proof(generate: Run) -> None:
    code, out, err = generate(*IRSA)
    whole = json.loads(out)
    assert (code, whole["verdict"]) == (0, "Satisfied")
    names = [part["part"] for part in whole["parts"]]
    assert names == ["pod-policy", "pod-trust", "image-pull", "service-account", "router"]
    for part in whole["parts"]:
        assert part["verdict"] == "Satisfied"
        assert part["engines"] == ["B", "C"]
        assert part["document"]
        assert part["spec"]["ceiling"]
        assert part["report"]["verdict"] == "Satisfied"
        assert {tuple(rule["engines"]) for rule in part["report"]["proved"]} == {("B", "C")}
        assert f"{part['owner']} {part['part']}: Satisfied" in err
    assert whole["parts"][0]["kind"] == "IAMIdentity"
    assert whole["parts"][0]["role"] == "medley_prod_prod_chat"
    assert whole["parts"][0]["ceilings"] == ["aws-escalation", "aws-credentials"]
    assert whole["parts"][1]["serviceAccount"] == "prod/chat-engine"


def test_what_json_prints_verifies_again_by_the_other_command(
    generate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = generate(
        *IRSA, "--operator", "--service", "prod/chat", "--namespaces", "prod", "--eks-pool", "l4=gpu-l4"
    )
    parts = json.loads(out)["parts"]
    assert len(parts) == 8
    for part in parts:
        document, spec = tmp_path / "document", tmp_path / "spec"
        many = isinstance(part["document"], list)
        document.write_text(yaml.safe_dump_all(part["document"]) if many else json.dumps(part["document"]))
        spec.write_text(json.dumps(part["spec"]))
        if part["part"] == "service-account":
            continue  # it has no role, of which that command wants one
        assert looks_like_manifest(document.read_text()) is many
        assert main(["policy", "verify", "-d", str(document), "-s", str(spec)]) == 0, capsys.readouterr().out


def test_yaml_says_what_json_says(generate: Run) -> None:
    assert yaml.safe_load(generate(*IRSA, "-o", "yaml")[1]) == json.loads(generate(*IRSA)[1])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("irsa.tf", (*IRSA, "-o", "terraform")),
        ("pod-identity.tf", (*PLACE, "--trust", "pod-identity", "-o", "terraform")),
        ("operator.tf", (*IRSA, "--operator", *NODEGROUPS, "-o", "terraform")),
        ("service.yaml", (*IRSA, "-o", "kubectl")),
    ],
)  # fmt: skip
def test_the_printed_form_is_the_golden_one(generate: Run, name: str, arguments: tuple[str, ...]) -> None:
    code, out, _ = generate(*arguments)
    assert code == 0
    assert out == (GOLDEN / name).read_text()


def test_terraform_escapes_what_it_would_read_as_a_template(generate: Run) -> None:
    own = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::home/${aws:PrincipalTag/team}/*"}
    code, out, err = generate(*IRSA, "-o", "terraform", "--part", "pod-policy", objects=[service(statements=[own])])
    assert code == 0, err
    assert '"arn:aws:s3:::home/$${aws:PrincipalTag/team}/*"' in out
    assert 'role   = "medley_prod_prod_chat"' in out  # its role is not among what is printed


def test_without_a_cluster_only_what_is_kubernetes_own_is_generated(generate: Run) -> None:
    code, out, err = generate("-o", "kubectl")
    kinds = [(found["kind"], found["metadata"]["name"]) for found in yaml.safe_load_all(out)]
    assert code == 0
    assert kinds == [
        ("ServiceAccount", "chat-engine"),
        ("ServiceAccount", "chat-router"),
        ("Role", "chat-routing-reader"),
        ("RoleBinding", "chat-routing-reader"),
    ]
    assert "IAM is left out" in err


def test_the_operator_everywhere_is_outside_the_danger_ceiling_and_is_not_printed(generate: Run) -> None:
    code, out, err = generate("--operator", "-o", "kubectl")
    assert (code, out) == (1, "")
    assert "workloads-anywhere" in err
    assert "nothing is printed" in err
    code, out, _ = generate("--operator")
    (part,) = json.loads(out)["parts"]
    assert (code, part["verdict"], part["document"]) == (1, "Violated", None)
    assert {witness["rule"] for witness in part["report"]["witnesses"]} == {"workloads-anywhere", "eks-users"}
    assert generate("--operator", "--namespaces", "prod", "-o", "kubectl")[0] == 0
    assert generate("--operator", "--ceiling", "none", "-o", "kubectl")[0] == 0


def test_a_ceiling_of_ones_own_is_held_to(generate: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("ceiling: [{id: no-keys, action: 'kms:*'}]")
    code, out, err = generate(*IRSA, "--ceiling", str(mine), "--part", "pod-policy", "-o", "terraform")
    assert (code, out) == (1, "")
    assert "no-keys" in err


def test_statements_are_merged_and_what_became_of_them_is_said(generate: Run) -> None:
    wide = {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::models/*"}
    code, out, err = generate(*IRSA, "--part", "pod-policy", objects=[service(statements=[wide])])
    (part,) = json.loads(out)["parts"]
    assert code == 0
    assert part["statements"]["outcome"] == "Repaired"
    assert part["statements"]["edits"][0]["edit"] == "addStatement"
    assert part["document"]["Statement"][-1]["Effect"] == "Deny"
    assert "statements: Repaired" in err


def test_a_refused_statement_is_said_with_its_witness_and_nothing_is_printed_as_usable(generate: Run) -> None:
    own = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": f"arn:aws:iam::{ACCOUNT}:role/admin"}
    code, out, err = generate(*IRSA, "--part", "pod-policy", objects=[service(statements=[own])])
    (part,) = json.loads(out)["parts"]
    assert (code, part["verdict"], part["document"]) == (1, "Violated", None)
    assert part["statements"]["outcome"] == "Refused"
    assert part["statements"]["witness"]["resource"] == f"arn:aws:iam::{ACCOUNT}:role/admin"
    assert "identities" in err
    assert generate(*IRSA, "-o", "terraform", objects=[service(statements=[own])])[:2] == (1, "")


def test_a_statement_may_not_reach_into_another_services_folder(generate: Run) -> None:
    other = service("other", modelUri=ACCESS["modelUri"], cacheUri="s3://scratch/other", serviceAccountName="other")
    own = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{place}/x"} for place in
           ("scratch/other", "scratch/mine", "models/llama/8b")]  # fmt: skip
    arguments = (*IRSA, "--part", "pod-policy", "--service", "prod/chat")
    for statement, outcome in zip(own, ("Refused", "Accepted", "Accepted"), strict=True):
        _, out, err = generate(*arguments, objects=[service(statements=[statement]), other])
        (part,) = json.loads(out)["parts"]
        assert part["statements"]["outcome"] == outcome, err
    code, out, err = generate(*arguments, objects=[service(statements=own[:1]), other])
    assert code == 1
    assert "own-1 asks for what the ceiling objects-of-prod-other forbids: they are LLMService/prod/other's" in err


def test_without_z3_it_is_said_and_not_known(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "z3" else found(name, *more))
    code, out, err = generate(*IRSA, "--part", "pod-trust")
    (part,) = json.loads(out)["parts"]
    assert (code, part["verdict"], part["document"], part["engines"]) == (4, "Unknown", None, ["B"])
    assert "Z3 is not installed" in part["reason"]
    assert 'install "medley[policy]"' in err
    assert generate(*IRSA, "-o", "terraform")[:2] == (4, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--aws-account", ACCOUNT), "--region: is missing"),
        (PLACE, "oidcIssuer: is missing"),
        (("--oidc-issuer", ISSUER), "says nothing without a cluster"),
        ((*IRSA, "--service", "prod/other"), "'prod/other' is not in the files"),
        ((*IRSA, "--operator", "--eks-pool", "l4"), "is not POOL=NODEGROUP"),
        ((*IRSA, "--eks-pool", "l4=gpu"), "Give --operator"),
        (("--operator", "--operator-account", "medley"), "is not NAMESPACE/NAME"),
        (("--operator", "--scale-resource", "nodegroups"), "is not PLURAL.GROUP"),
        ((*IRSA, "--operator", "--service", "prod/chat", "--role-name", "r"), "is of one role"),
        ((*IRSA, "--role-name", "r" * 65), "more than the 64"),
        ((*IRSA, "--ceiling", "mine"), "neither shipped nor a file"),
        (("--part", "pod-policy"), "nothing is to be generated"),
        ((*IRSA, "--router-account", "chat-engine"), "not the router's alone"),
    ],
)
def test_bad_input_is_refused(generate: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = generate(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_bad_object_is_named(generate: Run) -> None:
    code, _, err = generate(*IRSA, objects=[service(serviceAccountName=None)])
    assert code == 2
    assert "LLMService/prod/chat" in err
    assert "serviceAccountName" in err


def test_a_scale_target_whose_resource_is_not_known_has_to_be_named(generate: Run) -> None:
    odd = [pool(apiVersion="lab.medley.dev/v1alpha1", kind="NodeGroup")]
    code, _, err = generate("--operator", objects=odd)
    assert code == 2
    assert "Give --scale-resource PLURAL.lab.medley.dev" in err
    arguments = ("--operator", "--namespaces", "prod", "--scale-resource", "nodegroups.lab.medley.dev", "-o", "kubectl")
    code, out, _ = generate(*arguments, objects=odd)
    assert code == 0
    assert "nodegroups/scale" in out


def test_a_role_may_be_named_and_a_router_may_only_read(generate: Run) -> None:
    _, out, _ = generate(*IRSA, "--role-name", "team/x".replace("/", "-"), "--router", "read")
    parts = {part["part"]: part for part in json.loads(out)["parts"]}
    assert parts["pod-trust"]["role"] == "team-x"
    assert parts["router"]["document"][1]["rules"][0]["verbs"] == ["get", "watch"]
    _, out, _ = generate("--router", "none")
    assert [part["part"] for part in json.loads(out)["parts"]] == ["service-account"]
