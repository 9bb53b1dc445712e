"""The inventory of calls: what an account asked of the API server, as the roles that would allow just that.

Roles speak of sets, calls of single objects. A name is kept where all calls of one kind have it, as those on the
operator's lease; where there are several, users choose them, and the role has to be for all. A namespace is kept but
where an operator looks after all of them: then what it does in one it may have to do in any.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from medley.actuation.rights import Right, places
from medley.policy.prove import Prover, Refuted, Unproved
from medley.policy.rbac.document import (
    API_GROUP,
    Binding,
    Kind,
    Metadata,
    PolicyRule,
    Role,
    RoleRef,
    Subject,
    SubjectKind,
)
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.questions import within
from medley.policy.rbac.request import AUTHENTICATED, Request
from medley.policy.rbac.roleset import RoleSet

EVERYWHERE = ""


def _given_to_all(name: str, *rules: PolicyRule) -> tuple[Role, Binding]:
    ref = RoleRef(Kind.CLUSTER_ROLE, name)
    everybody = Subject(SubjectKind.GROUP, AUTHENTICATED, "", API_GROUP)
    return (
        Role(Kind.CLUSTER_ROLE, Metadata(name), rules),
        Binding(Kind.CLUSTER_ROLE_BINDING, Metadata(name), ref, (everybody,)),
    )


_REVIEWS = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")
_DISCOVERY = (
    "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version",
    "/version/",
)  # fmt: skip
GIVEN_TO_ALL = RoleSet(
    (
        *_given_to_all(
            "system:basic-user",
            PolicyRule(("create",), ("authorization.k8s.io",), _REVIEWS),
            PolicyRule(("create",), ("authentication.k8s.io",), ("selfsubjectreviews",)),
        ),
        *_given_to_all("system:discovery", PolicyRule(("get",), non_resource_urls=_DISCOVERY)),
    )
)
"""What Kubernetes gives to whoever has authenticated: no role of ours need have it. A cluster test compares it."""


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """One kind of call.

    Attributes:
        group: API group; empty for the core.
        resource: with its subresource.
        verb: as the authorizer sees it.
        namespaces: in which it was made; "" for a call outside of any, or about all of them.
        names: the only name that such calls have; empty: they have several, or none.
    """

    group: str
    resource: str
    verb: str
    namespaces: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        whole = f"{self.resource}.{self.group}" if self.group else self.resource
        named = f" {', '.join(self.names)}" if self.names else ""
        return f"{self.verb} {whole}{named}"

    def serves(self, right: Right) -> bool:
        """Whether it is a call for which the right is there, wherever."""
        return (self.group, self.resource) == (right.group, right.resource) and self.verb in right.verbs


def uses(requests: Iterable[Request]) -> tuple[Use, ...]:
    """The kinds of the calls, without those that everybody may make. Unordered requests give an ordered answer."""
    open_to_all = Evaluator(GIVEN_TO_ALL)
    where: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    names: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for request in set(requests):
        if open_to_all.allows(request):
            continue
        kind = (request.api_group, request.path or request.whole_resource, request.verb)
        where[kind].add(request.namespace)
        names[kind].add(request.name)
    found = []
    for kind in sorted(where):
        single = tuple(names[kind]) if len(names[kind]) == 1 and names[kind] != {""} else ()
        found.append(Use(*kind, tuple(sorted(where[kind])), single))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Installation:
    """How an operator was installed when its calls were recorded.

    Attributes:
        name: of its ServiceAccount, and of its roles.
        namespace: of its ServiceAccount.
        services: the namespaces in which there were services.
        looks_after: those that it was told to look after; none: all.
    """

    name: str
    namespace: str
    services: tuple[str, ...]
    looks_after: tuple[str, ...] = field(default=())


def roles_of(found: Iterable[Use], installation: Installation) -> RoleSet:
    """The roles that allow these kinds of calls to the account, and nothing else."""
    rules: dict[str, list[PolicyRule]] = defaultdict(list)
    for use in found:
        anywhere = not installation.looks_after and set(use.namespaces) & set(installation.services)
        for place in (EVERYWHERE,) if anywhere else use.namespaces:
            rule = PolicyRule((use.verb,), (use.group,), (use.resource,), use.names)
            rules[place].append(PolicyRule((use.verb,), non_resource_urls=(use.resource,)) if _is_url(use) else rule)
    account = Subject(SubjectKind.SERVICE_ACCOUNT, installation.name, installation.namespace)
    objects: list[Role | Binding] = []
    for place, mine in rules.items():
        kind, binding = (Kind.ROLE, Kind.ROLE_BINDING) if place else (Kind.CLUSTER_ROLE, Kind.CLUSTER_ROLE_BINDING)
        metadata = Metadata(installation.name, place)
        objects += [
            Role(kind, metadata, tuple(mine)),
            Binding(binding, metadata, RoleRef(kind, installation.name), (account,)),
        ]
    return RoleSet(objects)


def differences(called: RoleSet, shipped: RoleSet, prover: Prover) -> list[str]:
    """Empty where the two are proved to allow the same requests; else a request for each direction that is not."""
    out = []
    for inner, outer, text in (
        (shipped, called, "allowed, and no recorded call needs it"),
        (called, shipped, "a recorded call needs it, and it is refused"),
    ):
        outcome = within(inner, outer, prover)
        if isinstance(outcome, Refuted):
            out.append(f"{text}: {outcome.witness}")
        elif isinstance(outcome, Unproved):
            out.append(f"not proved either way ({text}): {outcome.reason}")
    return out


def unused(rights: Iterable[Right], found: Sequence[Use], installation: Installation) -> list[str]:
    """Each verb of each right of which there is no call where it is given, as text with the right's reason."""
    out = []
    for right in rights:
        for verb in right.verbs:
            called = {place for use in found if use.serves(right) and use.verb == verb for place in use.namespaces}
            for place in places(right, installation.looks_after):
                # What is given everywhere is used where there are services.
                wanted = {place} if place or installation.looks_after else {place, *installation.services}
                if not called & wanted:
                    whole = f"{right.resource}.{right.group}" if right.group else right.resource
                    out.append(f"{verb} {whole} in {place or 'all namespaces'}: {right.why}")
    return out


def outside(requests: Iterable[Request], roles: RoleSet) -> list[Request]:
    """Those that neither the roles allow nor Kubernetes allows to everybody."""
    allowed = (Evaluator(roles), Evaluator(GIVEN_TO_ALL))
    return [request for request in requests if not any(evaluator.allows(request) for evaluator in allowed)]


def _is_url(use: Use) -> bool:
    return use.resource.startswith("/")
