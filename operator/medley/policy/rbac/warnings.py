"""What the API server accepts but what does not do what it looks like.

Source: "Using RBAC Authorization", Referring to resources: no create or deletecollection of top-level objects by name,
list and watch by name only with a field selector; and kubernetes v1.36.3, pkg/apis/rbac/v1/evaluation_helpers.go: the
only wildcards are `*`, `*/subresource` and a URL's trailing `*`.
"""

from __future__ import annotations

from collections.abc import Iterator

from medley.policy.rbac.document import ALL, Binding, Kind, PolicyRule, Role


def role_warnings(role: Role, path: str) -> Iterator[str]:
    """Warnings about a role, each with its path."""
    for number, rule in enumerate(role.rules):
        yield from rule_warnings(rule, f"{path}.rules[{number}]")
    if role.aggregation is not None:
        yield f"{path}.aggregationRule: ClusterRoles of the cluster with its labels come on top of those given here"
        if role.rules:
            yield f"{path}.rules: a controller overwrites them with those of the selected ClusterRoles"


def rule_warnings(rule: PolicyRule, path: str) -> Iterator[str]:
    """Warnings about a rule."""
    for number, verb in enumerate(rule.verbs):
        if verb != verb.lower():
            yield f"{path}.verbs[{number}]: {verb!r} matches no request: verbs are in lower case"
        elif verb == "deletecollection" and rule.resource_names:
            yield f"{path}.verbs[{number}]: {verb} carries no name, so resourceNames never match it"
        elif verb == "create" and rule.resource_names and any("/" not in name for name in rule.resources):
            yield f"{path}.verbs[{number}]: a create by POST carries no name; one by apply does, and is matched"
        elif verb in ("list", "watch") and rule.resource_names:
            yield f"{path}.verbs[{number}]: {verb} matches resourceNames only with a metadata.name field selector"
    for number, resource in enumerate(rule.resources):
        before, slash, after = resource.partition("/")
        if slash and (after == ALL or "/" in after or (ALL in before and before != ALL)):
            yield f"{path}.resources[{number}]: {resource!r} is no wildcard, and matches nothing that is served"
        elif not slash and resource != ALL and (ALL in resource or resource != resource.lower()):
            yield f"{path}.resources[{number}]: {resource!r} matches nothing: write the plural in lower case, or *"
        elif slash and rule.resource_names and before == ALL:
            yield f"{path}.resourceNames: they limit {resource!r} of every resource by name, whatever its kind"
    for number, group in enumerate(rule.api_groups):
        if "/" in group or (ALL in group and group != ALL):
            yield f"{path}.apiGroups[{number}]: {group!r} matches nothing: give the group without version, or *"
    for number, url in enumerate(rule.non_resource_urls):
        if url != ALL and not url.startswith("/"):
            yield f"{path}.nonResourceURLs[{number}]: {url!r} matches nothing: paths begin with a slash"
        elif ALL in url.rstrip(ALL):
            yield f"{path}.nonResourceURLs[{number}]: {url!r}: only a trailing * is a wildcard"


def binding_warnings(binding: Binding, path: str) -> Iterator[str]:
    """Warnings about a binding."""
    if not binding.subjects:
        yield f"{path}.subjects: nobody is bound"
    for number, subject in enumerate(binding.subjects):
        if subject.kind.value == "User" and subject.name.startswith("system:serviceaccount:"):
            yield f"{path}.subjects[{number}]: a service account, bound by the name of its user"
    if binding.kind is Kind.CLUSTER_ROLE_BINDING and binding.role.name == "cluster-admin":
        yield f"{path}.roleRef: cluster-admin may do everything"
