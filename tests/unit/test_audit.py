"""The audit log as calls, from events that an API server wrote (tests/data/audit_events.jsonl)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.lab.audit import POLICY, Answer, calls, flags, read

LINES = (Path(__file__).parents[1] / "data" / "audit_events.jsonl").read_text()
EVENTS = [json.loads(line) for line in LINES.splitlines()]
ACCOUNT = "system:serviceaccount:medley-system:medley"


def events(verb: str, resource: str, code: int) -> list[dict[str, Any]]:
    found = [
        item
        for item in EVENTS
        if item["verb"] == verb
        and (item.get("objectRef") or {}).get("resource") == resource
        and item["responseStatus"]["code"] == code
    ]
    assert found, "there is such an event"
    return found


def texts(event: dict[str, Any]) -> list[str]:
    return [f"{call.answer.value} {str(call.request).partition(' by ')[0]}" for call in calls(event)]


def test_the_name_of_what_is_created_is_not_one_that_the_authorizer_saw() -> None:
    named, *_ = events("create", "configmaps", 201)
    assert named["objectRef"]["name"] == "made"
    assert texts(named) == ["Allowed create configmaps in namespace default"]
    assert texts(events("create", "configmaps", 409)[0]) == ["Allowed create configmaps in namespace default"]


def test_apply_is_a_patch_and_where_it_makes_the_object_a_create_with_its_name_too() -> None:
    assert texts(events("patch", "configmaps", 201)[0]) == [
        "Allowed patch configmaps applied in namespace default",
        "Allowed create configmaps applied in namespace default",
    ]
    assert texts(events("patch", "configmaps", 200)[0]) == ["Allowed patch configmaps applied in namespace default"]
    assert texts(events("patch", "configmaps", 404)[0]) == ["Allowed patch configmaps absent in namespace default"]


def test_an_apply_that_may_patch_but_not_create_is_refused_although_the_log_says_allow() -> None:
    (event,) = events("patch", "deployments", 403)
    assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert texts(event) == [
        "Allowed patch deployments.apps d in namespace default",
        "Refused create deployments.apps d in namespace default",
    ]


def test_a_refusal_by_admission_is_none_of_the_authorizer() -> None:
    (event,) = events("create", "configmaps", 403)
    assert texts(event) == ["Allowed create configmaps in namespace going"]
    (event,) = events("patch", "configmaps", 403)
    assert texts(event) == ["Allowed patch configmaps x in namespace going"]


def test_lists_have_a_name_only_where_a_selector_has_it() -> None:
    assert [texts(event) for event in events("list", "configmaps", 200)] == [
        ["Allowed list configmaps in namespace default"],
        ["Allowed list configmaps made cluster-wide"],
    ]


def test_refused_requests_keep_what_was_asked() -> None:
    assert texts(events("list", "secrets", 403)[0]) == ["Refused list secrets cluster-wide"]
    assert texts(events("get", "secrets", 403)[0]) == ["Refused get secrets x in namespace default"]


def test_a_watch_counts_from_its_beginning() -> None:
    began, ended = events("watch", "configmaps", 200)
    assert (began["stage"], ended["stage"]) == ("ResponseStarted", "ResponseComplete")
    assert texts(began) == texts(ended) == ["Allowed watch configmaps in namespace default"]
    assert texts({**began, "stage": "RequestReceived"}) == []


def test_urls_come_without_their_query() -> None:
    (event,) = [item for item in EVENTS if item["requestURI"] == "/version"]
    assert texts({**event, "requestURI": "/version?timeout=32s"}) == ["Allowed get /version"]


def test_whoever_is_impersonated_is_the_one_whose_rights_count() -> None:
    event = {**events("list", "secrets", 403)[0], "impersonatedUser": {"username": "ann"}}
    (call,) = calls(event)
    assert call.request.caller.user == "ann"


def test_reading_leaves_others_and_a_line_that_is_not_whole(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    assert read(log, ACCOUNT) == []
    other = json.dumps({**EVENTS[0], "user": {"username": f"{ACCOUNT}-too"}})
    first, second, *_ = LINES.splitlines()
    log.write_text(f"{first}\n{other}\n{second[:100]}")
    assert [call.answer for call in read(log, ACCOUNT)] == [Answer.ALLOWED]
    log.write_text(f"{first}\n{other}\n{second}\n")
    assert len(read(log, ACCOUNT)) == 2


def test_only_service_accounts_are_logged_and_no_bodies(tmp_path: Path) -> None:
    log_path = next(flag for flag in flags(tmp_path) if flag.startswith("--audit-log-path="))
    assert log_path == f"--audit-log-path={tmp_path / 'audit.log'}"
    assert yaml.safe_load((tmp_path / "audit-policy.yaml").read_text()) == POLICY
    assert {rule["level"] for rule in POLICY["rules"]} == {"None", "Metadata"}
    assert POLICY["rules"][-1] == {"level": "None"}


@pytest.mark.parametrize("event", EVENTS, ids=range(len(EVENTS)))
def test_every_recorded_event_is_read(event: dict[str, Any]) -> None:
    assert list(calls(event))
