"""One request, as the API server's authorizer sees it.

Source: kubernetes v1.36.3, apiserver/pkg/endpoints/request/requestinfo.go (how a URL becomes verb, resource and name);
"Authenticating" and "Using RBAC Authorization" for the names and groups of service accounts.
"""

from __future__ import annotations

from dataclasses import dataclass

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = "system:anonymous"
MASTERS = "system:masters"
"""Its members pass every authorizer: bindings have no say."""
ACCOUNT_PREFIX = "system:serviceaccount:"
ACCOUNTS = "system:serviceaccounts"


FIRST = "(somebody)"
"""The user who stands for the members of a group."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the name and the groups that authentication found."""

    user: str
    groups: tuple[str, ...] = (AUTHENTICATED,)

    def __str__(self) -> str:
        own = tuple(group for group in self.groups if group not in _implied(self.user))
        return self.user + (f" in {', '.join(own)}" if own else "")


def service_account(namespace: str, name: str) -> Caller:
    """A service account with its groups."""
    return Caller(f"{ACCOUNT_PREFIX}{namespace}:{name}", (ACCOUNTS, f"{ACCOUNTS}:{namespace}", AUTHENTICATED))


def user(name: str, *groups: str) -> Caller:
    """A user who has authenticated, with the groups that come with the name."""
    implied = () if UNAUTHENTICATED in groups else _implied(name)
    return Caller(name, tuple(dict.fromkeys((*groups, *implied))))


def _implied(name: str) -> tuple[str, ...]:
    if name == ANONYMOUS:
        return (UNAUTHENTICATED,)
    parts = name.removeprefix(ACCOUNT_PREFIX).split(":")
    if name.startswith(ACCOUNT_PREFIX) and len(parts) == 2 and all(parts):
        return service_account(parts[0], parts[1]).groups
    return (AUTHENTICATED,)


@dataclass(frozen=True, slots=True)
class Request:
    """A verb on a resource, or with `path` on a URL that is none.

    Empty: `api_group` the core group, `subresource` and `name` none, `namespace` cluster-wide, `path` a resource.
    """

    caller: Caller
    verb: str
    api_group: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    namespace: str = ""
    path: str = ""

    @property
    def whole_resource(self) -> str:
        """Resource and subresource as a rule writes them: `pods/log`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def __str__(self) -> str:
        if self.path:
            return f"{self.verb} {self.path} by {self.caller}"
        group = f".{self.api_group}" if self.api_group else ""
        name = f" {self.name}" if self.name else ""
        where = f"in namespace {self.namespace}" if self.namespace else "cluster-wide"
        return f"{self.verb} {self.whole_resource}{group}{name} {where} by {self.caller}"
