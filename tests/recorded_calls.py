"""What the operator of a scene asked of its API server, held against the rules that it was given."""

from __future__ import annotations

from rights_inventory import roles_with

from medley.lab.audit import Answer, read
from medley.lab.calls import Installation, outside
from medley.lab.scene import OPERATOR_NAME, OPERATOR_NAMESPACE, OPERATOR_RIGHTS, Scene


def require_calls_within_rules(scene: Scene) -> None:
    """Fails where a call was refused, or where no rule is for it. A given cluster has no log to look at."""
    log = scene.control_plane.audit_log
    if log is None:
        return
    places = tuple(scene.namespaces)
    roles = roles_with(Installation(OPERATOR_NAME, OPERATOR_NAMESPACE, places, places), OPERATOR_RIGHTS)
    calls = read(log, f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_NAME}")
    assert calls, "the log has what it asked"
    refused = {str(call.request) for call in calls if call.answer is Answer.REFUSED}
    assert not refused, f"refused: {sorted(refused)}"
    beyond = {str(request) for request in outside({call.request for call in calls}, roles)}
    assert not beyond, f"no rule is for {sorted(beyond)}"
