"""Reviews: verdict, blame, repair and proof of live documents, in texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from medley.model.errors import UserError
from medley.policy.answers import Unknown
from medley.policy.kind import PolicyKind
from medley.policy.rbac.document import Extent
from medley.policy.repair.repair import Outcome
from medley.policy.review import Case, Review, review
from medley.policy.verify import Verdict

ACCOUNT = {"kind": "ServiceAccount", "name": "router", "namespace": "prod"}
SPEC = {
    "floor": [
        {
            "id": "read-table",
            "subject": ACCOUNT,
            "verbs": ["get", "watch"],
            "apiGroups": "",
            "resources": "configmaps",
            "resourceNames": "chat-routing",
            "namespaces": "prod",
        }
    ],
    "ceiling": [
        {"id": "other-resources", "notResources": ["configmaps"]},
        {"id": "other-verbs", "notVerbs": ["get", "watch"]},
        {"id": "other-names", "resources": "configmaps", "notResourceNames": ["chat-routing"]},
        {"id": "other-places", "notNamespaces": ["prod"]},
        {"id": "urls", "nonResourceURLs": "*"},
    ],
}
RULE: dict[str, Any] = {
    "apiGroups": [""],
    "resources": ["configmaps"],
    "resourceNames": ["chat-routing"],
    "verbs": ["get", "watch"],
}


def role(*rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "router", "namespace": "prod"},
        "rules": list(rules),
    }


def binding(*subjects: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "router", "namespace": "prod"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "router"},
        "subjects": list(subjects),
    }


def roles(*objects: dict[str, Any], spec: dict[str, Any] = SPEC) -> Review:
    return review(Case(PolicyKind.RBAC, yaml.safe_dump_all(objects), json.dumps(spec)))


def test_a_right_role_is_proved_by_both_engines() -> None:
    found = roles(role(RULE), binding(ACCOUNT))
    assert (found.verdict, found.outcome, found.writable) == (Verdict.SATISFIED, Outcome.UNCHANGED, False)
    assert found.proof is not None
    assert found.proof.by_both
    assert found.proof.rules == 6
    assert [str(probe) for probe in found.probes] == [
        f"{verb} configmaps chat-routing in namespace prod by system:serviceaccount:prod:router"
        for verb in ("get", "watch")
    ]


def test_a_widened_role_is_blamed_and_brought_back() -> None:
    secrets = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    found = roles(role(RULE, secrets), binding(ACCOUNT))
    assert found.verdict is Verdict.VIOLATED
    assert found.writable
    (finding,) = [one for one in found.findings if one.rule == "other-resources"]
    assert "secrets" in finding.request
    assert "Role prod/router rules[1] through RoleBinding prod/router" in finding.blamed[0]
    assert found.edits == ("remove Role prod/router rules[1]",)
    assert yaml.safe_load(found.proposed.split("---")[0])["rules"] == [RULE]
    assert "-  - secrets" in found.diff


def test_a_role_without_its_binding_gives_nothing_and_gets_a_binding() -> None:
    found = roles(role(RULE))
    assert found.verdict is Verdict.VIOLATED
    assert found.edits == ("add RoleBinding prod/router",)
    assert found.writable
    added = list(yaml.safe_load_all(found.proposed))[1]
    assert added["subjects"] == [ACCOUNT]
    assert added["roleRef"]["name"] == "router"


def test_a_binding_without_subjects_gets_its_subject_back() -> None:
    found = roles(role(RULE), binding())
    assert found.edits == ("RoleBinding prod/router: add ServiceAccount prod/router",)
    assert found.writable


def test_an_empty_role_gets_its_rule_back() -> None:
    found = roles(role(), binding(ACCOUNT))
    assert found.edits == ("Role prod/router: add a rule: get, watch on configmaps",)
    assert found.writable


def test_what_is_gone_altogether_comes_back_under_its_name() -> None:
    found = roles(role())
    assert found.edits == ("Role prod/router: add a rule: get, watch on configmaps", "add RoleBinding prod/router")
    assert found.writable


def test_a_spec_that_contradicts_itself_is_said_and_nothing_is_proposed() -> None:
    spec = {**SPEC, "ceiling": [{"id": "no-maps", "resources": "configmaps"}]}
    found = roles(role(RULE), binding(ACCOUNT), spec=spec)
    assert found.outcome is Outcome.CONTRADICTION
    assert not found.writable
    assert not found.proposed
    assert "read-table" in found.contradictions[0]
    assert "no-maps" in found.contradictions[0]


def test_the_digest_depends_on_what_was_proved_of_what() -> None:
    one, same = (roles(role(RULE), binding(ACCOUNT)) for _ in range(2))
    fewer = {**SPEC, "ceiling": SPEC["ceiling"][:-1]}
    other = roles(role(RULE), binding(ACCOUNT), spec=fewer)
    digests = [found.proof.digest for found in (one, same, other) if found.proof is not None]
    assert digests[0] == digests[1] != digests[2]


# IAM.

READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/llama/*"}
IAM_SPEC = {
    "floor": [{"id": "weights", "action": "s3:GetObject", "resource": "arn:aws:s3:::models/llama/a.bin"}],
    "ceiling": [
        {"id": "other-actions", "notAction": "s3:GetObject"},
        {"id": "other-objects", "notResource": "arn:aws:s3:::models/llama/*"},
    ],
}


def iam(*statements: dict[str, Any], **more: Any) -> Review:
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return review(Case(PolicyKind.IAM_IDENTITY, text, json.dumps(IAM_SPEC), **more))


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def test_a_widened_iam_policy_is_brought_back() -> None:
    found = iam({**READ, "Action": ["s3:GetObject", "s3:PutObject"]})
    assert found.verdict is Verdict.VIOLATED
    assert found.writable
    assert json.loads(found.proposed)["Statement"][0]["Action"] == ["s3:GetObject"]
    assert found.findings[0].request.startswith("s3:PutObject on ")
    assert "Statement[0]" in found.findings[0].blamed[0]


def test_what_stands_beside_it_decides_with_it_and_is_not_changed() -> None:
    wide = document({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
    found = iam(READ, beside=(wide,))
    assert found.verdict is Verdict.VIOLATED
    assert not found.writable
    assert "other policies" in found.reason
    # A boundary takes back what it gives.
    assert iam(READ, beside=(wide,), boundary=document(READ)).verdict is Verdict.SATISFIED
    # And one that is too narrow is no fault of the document either.
    found = iam(READ, boundary=document({**READ, "Action": "s3:ListBucket"}))
    assert (found.verdict, found.writable) == (Verdict.VIOLATED, False)
    assert "boundary" in found.reason


def test_a_repair_that_does_not_hold_beside_the_others_is_not_proposed() -> None:
    wide = document({"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*"})
    found = iam({**READ, "Resource": "*"}, beside=(wide,))
    assert (found.outcome, found.proposed, found.writable) == (Outcome.UNKNOWN, "", False)
    assert "beside it" in found.reason


def test_a_spec_without_rules_is_refused() -> None:
    for kind, text in ((PolicyKind.RBAC, yaml.safe_dump(role(RULE))), (PolicyKind.IAM_IDENTITY, document(READ))):
        with pytest.raises(UserError, match="has no rules"):
            review(Case(kind, text, '{"floor": []}'))


def test_roles_in_a_text_without_bindings_are_read_as_given_to_everybody() -> None:
    star = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    ceiling = json.dumps({"ceiling": [{"id": "secrets", "resources": "secrets"}]})
    text = yaml.safe_dump(role(star))
    assert review(Case(PolicyKind.RBAC, text, ceiling, extent=Extent.PART)).verdict is Verdict.VIOLATED
    assert review(Case(PolicyKind.RBAC, text, ceiling)).verdict is Verdict.SATISFIED  # in force, and bound to nobody


def test_shipped_ceilings_hold_as_well() -> None:
    spec = {"floor": [{"id": "pass", "action": "iam:CreateAccessKey", "resource": "arn:aws:iam::111122223333:user/a"}]}
    text = document({"Effect": "Allow", "Action": "iam:CreateAccessKey", "Resource": "*"})
    case = Case(PolicyKind.IAM_IDENTITY, text, json.dumps(spec))
    assert review(case).verdict is Verdict.SATISFIED
    held = Case(PolicyKind.IAM_IDENTITY, text, json.dumps(spec), PolicyKind.IAM_IDENTITY.ceilings)
    assert review(held).outcome is Outcome.CONTRADICTION
    with pytest.raises(UserError, match="aws-nonsense"):
        review(Case(PolicyKind.IAM_IDENTITY, text, json.dumps(spec), ("aws-nonsense",)))


def test_where_z3_has_no_answer_in_time_nothing_is_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medley.policy.prove.find_values_by_smt", lambda *_: Unknown("Z3: timeout"))
    found = iam({**READ, "Resource": "*"})
    assert (found.verdict, found.outcome) == (Verdict.VIOLATED, Outcome.UNKNOWN)
    assert (found.writable, found.proposed, found.proof) == (False, "", None)
    assert "timeout" in found.reason
    right = iam(READ)
    assert (right.verdict, right.proof) == (Verdict.UNKNOWN, None)
    assert all("timeout" in said for said in right.unknown)


@pytest.mark.parametrize("text", ["", "{", "{}", "- kind: Role", "kind: Pod"])
def test_what_cannot_be_read_is_an_error_that_names_the_document(text: str) -> None:
    for kind in PolicyKind:
        rule = {"id": "none", "resources": "x"} if kind is PolicyKind.RBAC else {"id": "none", "action": "s3:*"}
        with pytest.raises(UserError, match="document"):
            review(Case(kind, text, json.dumps({"ceiling": [rule]})))
