"""What `medley access` may do: to look, and with the policy writer's identity to write. Never the operator's rights."""

from __future__ import annotations

from medley.actuation.rights import GROUP, Right, Scope

_RBAC = "rbac.authorization.k8s.io"

LOOKER_RIGHTS = (
    Right(GROUP, "accesspolicies", ("list",), "reads the AccessPolicies", scope=Scope.SERVICES),
    Right(GROUP, "accesspolicies/status", ("patch",), "writes their status", scope=Scope.SERVICES),
    Right(GROUP, "llmservices", ("get",), "reads what policies are generated for", scope=Scope.SERVICES),
    Right(GROUP, "llmservices/status", ("patch",), "says on a service whether its access holds", scope=Scope.SERVICES),
    Right(_RBAC, "roles", ("get",), "reads the roles that are named", scope=Scope.SERVICES),
    Right(_RBAC, "rolebindings", ("list",), "reads who has them", scope=Scope.SERVICES),
    Right("", "events", ("create",), "says what it found", scope=Scope.SERVICES),
)
"""To judge and propose."""

CLUSTER_LOOKER_RIGHTS = (
    Right(_RBAC, "clusterroles", ("get", "list"), "reads the ClusterRoles that are named, and which aggregate them"),
    Right(_RBAC, "clusterrolebindings", ("list",), "reads who has them"),
    Right(_RBAC, "rolebindings", ("list",), "reads who has them in a namespace"),
)
"""To judge ClusterRoles as well."""

WRITER_RIGHTS = (
    Right(_RBAC, "roles", ("create", "patch"), "writes repaired roles", scope=Scope.SERVICES),
    Right(_RBAC, "rolebindings", ("create", "patch", "delete"), "writes who has them", scope=Scope.SERVICES),
    Right("authorization.k8s.io", "subjectaccessreviews", ("create",), "tries the floor after a write"),
)
"""To write Roles. The API server lets nobody give what he does not have: without `escalate` and `bind` the writer can
give its own rights and no others, which is its boundary."""

GRANTABLE_RIGHTS = (
    Right("", "configmaps", ("get", "watch", "patch"), "so that it can give it to routers", scope=Scope.SERVICES),
)
"""What the generated roles of services give: see policy/generate/kubernetes."""
