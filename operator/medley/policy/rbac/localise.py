"""Says which rule, and which of its entries, makes a request go the wrong way.

A request that must be denied is allowed by grants: each is a binding and a rule, both with the entries that match. One
that must be allowed lacks a grant: named are the rules nearest to it, with what they lack. The cases are those of IAM
(`policy.localise`); an explicit deny does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from medley.policy.localise import NEAREST, Case, Element
from medley.policy.rbac.document import ALL
from medley.policy.rbac.evaluate import url_matches
from medley.policy.rbac.request import Request
from medley.policy.rbac.roleset import EVERYWHERE, Grant, RoleSet, subject_is
from medley.policy.rbac.verify import Witness
from medley.policy.spec.spec import Side


@dataclass(frozen=True, slots=True)
class Blame:
    """A grant with its elements on the request: those of the binding, then those of the rule."""

    grant: Grant
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that goes wrong. `near`: the grants do not match, but nearly do."""

    witness: Witness
    case: Case
    blamed: tuple[Blame, ...]
    near: tuple[Blame, ...] = ()


def localise(roles: RoleSet, witness: Witness) -> Fault:
    """The grants and elements to look at for one broken rule."""
    request = witness.request
    if witness.rule.side is Side.CEILING:
        blamed = tuple(Blame(grant, elements_on(grant, request)) for grant in witness.grants)
        return Fault(witness, Case.ALLOWED, blamed)
    misses = [Blame(grant, elements_on(grant, request)) for grant in roles.grants()]
    misses = [blame for blame in misses if bool(blame.grant.rule.non_resource_urls) is bool(request.path)]
    misses.sort(key=lambda blame: sum(not element.matches for element in blame.elements))
    return Fault(witness, Case.IMPLICIT_DENY, (), tuple(misses[:NEAREST]))


def elements_on(grant: Grant, request: Request) -> tuple[Element, ...]:
    """Every element of the grant on the request, as the evaluator sees it."""
    return (*_binding(grant, request), *rule_elements(grant, request))


def _binding(grant: Grant, request: Request) -> Iterator[Element]:
    metadata = grant.binding.metadata
    found = tuple(
        str(subject) for subject in grant.binding.subjects if subject_is(subject, request.caller, metadata.namespace)
    )
    yield Element("subjects", bool(found), found)
    if grant.scope != EVERYWHERE:
        yield Element("namespace", grant.scope == request.namespace, (grant.scope,))


def rule_elements(grant: Grant, request: Request) -> Iterator[Element]:
    """The fields of the rule with the entries that match."""
    for name, entries in matching_entries(grant, request).items():
        yield Element(name, bool(entries) or (name == "resourceNames" and not grant.rule.resource_names), entries)


def matching_entries(grant: Grant, request: Request) -> dict[str, tuple[str, ...]]:
    """For each field that the rule has on such a request the entries that match."""
    rule = grant.rule
    out = {"verbs": _listed(rule.verbs, request.verb)}
    if request.path:
        out["nonResourceURLs"] = tuple(
            url for url in rule.non_resource_urls if url_matches(type(rule)((), non_resource_urls=(url,)), request.path)
        )
        return out
    out["apiGroups"] = _listed(rule.api_groups, request.api_group)
    wanted = {ALL, request.whole_resource} | ({f"{ALL}/{request.subresource}"} if request.subresource else set())
    out["resources"] = tuple(entry for entry in rule.resources if entry in wanted)
    if rule.resource_names:
        out["resourceNames"] = tuple(name for name in rule.resource_names if name == request.name)
    return out


def _listed(entries: tuple[str, ...], text: str) -> tuple[str, ...]:
    return tuple(entry for entry in entries if entry in (ALL, text))
