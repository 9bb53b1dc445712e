"""Engine A for RBAC: decides one request as the API server's authorizer does.

Source: kubernetes v1.36.3, plugin/pkg/auth/authorizer/rbac/rbac.go (which parts of a rule are asked) and
pkg/apis/rbac/v1/evaluation_helpers.go (how each matches). Nothing here is shared with the engines that prove.
`tests/cluster/test_rbac_oracle.py` compares it with a real API server.
"""

from __future__ import annotations

from collections.abc import Iterator

from medley.policy.rbac.document import ALL, Manifest, PolicyRule
from medley.policy.rbac.request import MASTERS, Caller, Request
from medley.policy.rbac.roleset import EVERYWHERE, Grant, RoleSet, applies_to

_REMEMBERED_CALLERS = 1024


class Evaluator:
    """Decides requests by a set of roles and bindings."""

    def __init__(self, roles: RoleSet | Manifest) -> None:
        self.roles = RoleSet(roles) if isinstance(roles, Manifest) else roles
        self._grants = tuple(self.roles.grants())
        self._by_caller: dict[Caller, tuple[Grant, ...]] = {}

    def allows(self, request: Request) -> bool:
        """Whether the request goes through."""
        return MASTERS in request.caller.groups or next(self.matching(request), None) is not None

    def matching(self, request: Request) -> Iterator[Grant]:
        """Every grant that allows the request."""
        grants = self._by_caller.get(request.caller)
        if grants is None:
            grants = tuple(grant for grant in self._grants if applies_to(grant.binding, request.caller))
            if len(self._by_caller) >= _REMEMBERED_CALLERS:
                self._by_caller.clear()
            self._by_caller[request.caller] = grants
        for grant in grants:
            if grant.scope in (EVERYWHERE, request.namespace) and rule_allows(grant.rule, request):
                yield grant


def rule_allows(rule: PolicyRule, request: Request) -> bool:
    """Whether a rule allows a request."""
    if request.path:
        return verb_matches(rule, request.verb) and url_matches(rule, request.path)
    return (
        verb_matches(rule, request.verb)
        and group_matches(rule, request.api_group)
        and resource_matches(rule, request.whole_resource, request.subresource)
        and name_matches(rule, request.name)
    )


def verb_matches(rule: PolicyRule, verb: str) -> bool:
    """Whether the rule has the verb, or all."""
    return ALL in rule.verbs or verb in rule.verbs


def group_matches(rule: PolicyRule, group: str) -> bool:
    """Whether the rule has the API group, or all."""
    return ALL in rule.api_groups or group in rule.api_groups


def resource_matches(rule: PolicyRule, whole: str, subresource: str) -> bool:
    """Whether the rule has all resources, this one by its whole name, or the subresource of every resource."""
    if ALL in rule.resources or whole in rule.resources:
        return True
    return bool(subresource) and f"{ALL}/{subresource}" in rule.resources


def name_matches(rule: PolicyRule, name: str) -> bool:
    """Whether the rule has the name, or no names at all. A request without a name has the empty one."""
    return not rule.resource_names or name in rule.resource_names


def url_matches(rule: PolicyRule, path: str) -> bool:
    """Whether the rule has the path, all, or a beginning of it; every trailing `*` is cut off."""
    return any(
        url in (ALL, path) or (url.endswith(ALL) and path.startswith(url.rstrip(ALL))) for url in rule.non_resource_urls
    )
