"""The `medley policy` commands: exit codes, JSON, and text."""

import json
from pathlib import Path

import pytest

from medley.cli.main import main
from medley.cli.policy_input import TARGETS

DATA = Path(__file__).parents[1] / "data" / "policies"
LAMBDA = DATA / "s3_s3_policy_for_lambda_function_policy2.json"
SPEC = """
floor:
- {id: read, action: s3:GetObject, resource: "arn:aws:s3:::test/*"}
ceiling:
- {id: delete, action: "s3:Delete*", reason: "objects are kept", source: "https://example.org/rule"}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["policy", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_verify(capsys: pytest.CaptureFixture[str], spec: Path):
    code, out, _ = run(capsys, "verify", "-d", LAMBDA, "-s", spec, "-o", "json")
    assert code == 1
    answer = json.loads(out)
    assert answer["verdict"] == "Violated"
    [witness] = answer["witnesses"]
    assert witness["rule"] == "delete"
    assert witness["request"]["action"] == "s3:DeleteObject"
    assert witness["statements"][0]["index"] == 1
    assert answer["proved"] == [{"rule": "read", "side": "floor", "engines": ["B", "C"]}]
    code, out, _ = run(capsys, "verify", "-d", LAMBDA, "-s", spec)
    assert code == 1
    assert "objects are kept" in out


def test_repair_and_verify_again(capsys: pytest.CaptureFixture[str], spec: Path, tmp_path: Path):
    fixed = tmp_path / "fixed.json"
    code, out, _ = run(capsys, "repair", "-d", LAMBDA, "-s", spec, "-o", "json", "--write", fixed)
    assert code == 0
    answer = json.loads(out)
    assert answer["verdict"] == "Repaired"
    assert answer["edits"] == [{"edit": "remove", "statement": 1, "element": "Action", "old": "s3:DeleteObject"}]
    assert answer["proof"]["verdict"] == "Satisfied"
    assert answer["document"] == json.loads(fixed.read_text())
    assert '-        "s3:DeleteObject"' in answer["diff"]
    assert run(capsys, "verify", "-d", fixed, "-s", spec)[0] == 0
    code, out, _ = run(capsys, "repair", "-d", fixed, "-s", spec)
    assert (code, out.splitlines()[0]) == (0, "Unchanged")
    code, out, _ = run(capsys, "diff", LAMBDA, fixed, "-o", "json")
    assert code == 0
    answer = json.loads(out)
    assert answer["relation"] == "Narrower"
    assert answer["lost"]["request"]["action"] == "s3:DeleteObject"
    assert run(capsys, "diff", fixed, LAMBDA)[0] == 1


def test_a_contradiction_is_not_repaired(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    spec = tmp_path / "spec.json"
    item = {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::test/a"}
    spec.write_text(
        json.dumps({"Requests": [{"id": "a", "Effect": "allow", **item}, {"id": "d", "Effect": "DENY", **item}]})
    )
    code, out, _ = run(capsys, "repair", "-d", LAMBDA, "-s", spec, "-o", "json")
    assert code == 1
    answer = json.loads(out)
    assert answer["verdict"] == "Contradiction"
    assert [(c["floor"], c["ceiling"], c["provedBySmt"]) for c in answer["contradictions"]] == [("a", "d", True)]
    assert answer["document"] == json.loads(LAMBDA.read_text())


def test_localise_and_explain(capsys: pytest.CaptureFixture[str], spec: Path):
    code, out, _ = run(capsys, "localise", "-d", LAMBDA, "-s", spec, "-o", "json")
    assert code == 1
    [fault] = json.loads(out)["faults"]
    assert fault["case"] == "allowed"
    assert fault["statements"][0]["elements"][0] == {
        "element": "Action",
        "matches": True,
        "entries": ["s3:DeleteObject"],
    }
    arguments = ("explain", "-d", LAMBDA, "--action", "s3:GetObject", "--resource")
    assert run(capsys, *arguments, "arn:aws:s3:::test/a")[0] == 0
    code, out, _ = run(capsys, *arguments, "arn:aws:s3:::other/a", "--context", "aws:username=bob", "-o", "json")
    assert code == 1
    answer = json.loads(out)
    assert answer["decision"] == "ImplicitDeny"
    assert answer["request"]["context"] == {"aws:username": ["bob"]}
    assert [row["matches"] for row in answer["statements"]] == [False, False]


def test_requests_are_a_spec(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    code, out, _ = run(capsys, "requests", "-d", LAMBDA, "-n", 20, "--seed", 5)
    assert code == 0
    spec = tmp_path / "requests.json"
    spec.write_text(out)
    assert run(capsys, "verify", "-d", LAMBDA, "-s", spec)[0] == 1
    assert run(capsys, "repair", "-d", LAMBDA, "-s", spec)[0] == 0


def test_unknown_is_its_own_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    policy = tmp_path / "policy.json"
    both = {"StringLike": {"s3:max-keys": "1*"}, "NumericGreaterThan": {"s3:max-keys": "5"}}
    statement = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*", "Condition": both}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    spec = tmp_path / "spec.yaml"
    spec.write_text("ceiling: [{id: list, action: s3:ListBucket}]")
    code, out, _ = run(capsys, "verify", "-d", policy, "-s", spec, "-o", "json")
    assert (code, json.loads(out)["verdict"]) == (4, "Unknown")


def test_the_size_limit_holds_where_a_target_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    policy = tmp_path / "policy.json"
    actions = [f"s3:Get{number:04}" for number in range(800)]
    policy.write_text(json.dumps({"Statement": [{"Effect": "Allow", "Action": actions, "Resource": "arn:aws:s3:::b"}]}))
    spec = tmp_path / "spec.yaml"
    spec.write_text("ceiling: [{id: iam, action: 'iam:*'}]")
    code, out, _ = run(capsys, "verify", "-d", policy, "-s", spec)
    assert code == 0
    assert "too long for managed-policy, role-inline-policy" in out
    found = json.loads(run(capsys, "verify", "-d", policy, "-s", spec, "-o", "json")[1])
    assert set(found["tooLongFor"]) == {f"{name}-policy" for name in ("managed", *INLINE)}
    code, out, _ = run(capsys, "verify", "-d", policy, "-s", spec, "--target", "managed-policy")
    assert code == 1
    assert "more than the 6,144 of managed-policy" in out


INLINE = ("role-inline", "user-inline", "group-inline")


def test_every_limit_can_be_a_target():
    # 2,048 characters are the limit of two of them.
    assert len(TARGETS) == 6
    assert TARGETS["trust-policy"].value == TARGETS["user-inline-policy"].value == 2048


def test_a_document_over_the_limit_is_made_shorter(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    policy = tmp_path / "policy.json"
    several = [{"Effect": "Allow", "Action": "s3:Get*", "Resource": f"arn:aws:s3:::b/{n}"} for n in range(100)]
    policy.write_text(json.dumps({"Statement": several}))
    spec = tmp_path / "spec.yaml"
    spec.write_text("ceiling: [{id: iam, action: 'iam:*'}]")
    assert "Unchanged" in run(capsys, "repair", "-d", policy, "-s", spec)[1]
    code, out, _ = run(capsys, "repair", "-d", policy, "-s", spec, "--target", "managed-policy")
    assert code == 0
    assert "to be short enough, with the same access:" in out
    found = json.loads(run(capsys, "repair", "-d", policy, "-s", spec, "--target", "managed-policy", "-o", "json")[1])
    assert found["shortening"] == len(found["edits"]) > 0
    assert found["characters"] <= 6144


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b" " * 10_000_000, "is larger than"),
        (b'{"Statement": [{"Effect": "Allow"}]}', "$.Statement[0]: has neither Action nor NotAction"),
    ],
)
def test_bad_input_is_exit_2(capsys: pytest.CaptureFixture[str], tmp_path: Path, spec: Path, content: bytes, said: str):
    policy = tmp_path / "policy.json"
    policy.write_bytes(content)
    for command in ("verify", "repair", "localise"):
        code, out, err = run(capsys, command, "-d", policy, "-s", spec, "-o", "json")
        assert (code, out) == (2, "")
        assert said in err


def test_a_ceiling_that_is_not_there(capsys: pytest.CaptureFixture[str], spec: Path):
    code, _, err = run(capsys, "verify", "-d", LAMBDA, "-s", spec, "--ceiling", "no-such-ceiling")
    assert code == 2
    assert "no-such-ceiling" in err


def test_the_ceiling_of_another_spec(capsys: pytest.CaptureFixture[str], spec: Path, tmp_path: Path):
    other = tmp_path / "other.yaml"
    other.write_text("floor: [{id: f, action: 'a:b', resource: '*'}]\nceiling: [{id: put, action: 's3:Put*'}]")
    _, out, _ = run(capsys, "verify", "-d", LAMBDA, "-s", spec, "--ceiling", other, "-o", "json")
    assert {witness["rule"] for witness in json.loads(out)["witnesses"]} == {"delete", "put"}
