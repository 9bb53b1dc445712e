"""Access specs for RBAC: the same floor and ceiling as for IAM, with the words of a rule.

floor:                                # every request of the set must be allowed
- id: scale
  verbs: [get, update, patch]         # one or a list, as in a rule; needed
  apiGroups: apps                     # needed beside resources; "" is the core group
  resources: deployments/scale        # or nonResourceURLs
  resourceNames: [vllm]               # left out: every name
  namespaces: serving                 # "" is outside of namespaces; left out: everywhere
  subject: {kind: ServiceAccount, name: medley, namespace: medley}   # left out: whoever asks
ceiling:                              # no request of the set may be allowed
- id: secrets
  verbs: [get, list, watch]           # every field may be left out: then it is free
  resources: secrets
  notNamespaces: [serving]            # notVerbs, notResources …: everything else
  notSubject: {kind: …}               # whoever asks but this one
  source: https://…
  reason: text
- id: own-certificate
  allOf:                              # nobody may have something in each of these sets
  - {verbs: create, resources: certificatesigningrequests}
  - {verbs: update, resources: certificatesigningrequests/approval}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medley.model.errors import UserError
from medley.policy.answers import Empty
from medley.policy.atoms.product import find_values
from medley.policy.json_text import read_json
from medley.policy.rbac.document import PolicyRule
from medley.policy.rbac.questions import Space
from medley.policy.rbac.regions import Among, Region
from medley.policy.rbac.request import FIRST, MASTERS, Caller, service_account, user
from medley.policy.rbac.warnings import rule_warnings
from medley.policy.spec.frame import rules_of
from medley.policy.spec.spec import Rules, Side
from medley.policy.yaml_text import read_yaml

FIELDS = {
    "verbs": "verbs",
    "apiGroups": "api_groups",
    "resources": "resources",
    "resourceNames": "names",
    "namespaces": "namespaces",
    "nonResourceURLs": "urls",
}
_NEGATED = {f"not{name[0].upper()}{name[1:]}": name for name in FIELDS}
_OTHERS = ("id", "subject", "notSubject", "allOf", "source", "reason")
_SUBJECTS = {"User": ("name", "groups"), "Group": ("name",), "ServiceAccount": ("name", "namespace")}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. A ceiling of several parts is broken by a caller who has something in each of them."""

    id: str
    side: Side
    parts: tuple[Region, ...]
    source: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Spec(Rules[Rule]):
    """Of roles and bindings."""

    def callers(self) -> tuple[Caller, ...]:
        """The callers that rules name."""
        parts = [part for rule in self.rules for part in rule.parts]
        return tuple(caller for part in parts for caller in (part.caller, part.not_caller) if caller is not None)


def read_spec(text: str, name: str) -> Spec:
    """A spec from the text of a file.

    Raises:
        UserError: not YAML, or a field that is missing, unknown or of the wrong type.
    """
    json = text.lstrip("\ufeff \t\r\n").startswith("{")
    value = read_json(text, name) if json else read_yaml(text, name)
    return Spec(tuple(rule_of(*found) for found in rules_of(value, name)))


def rule_of(item: Any, side: Side, number: int, path: str) -> Rule:
    """A rule from its value.

    Raises:
        UserError: a field that is missing, unknown or of the wrong type, or a set without any request.
    """
    if not isinstance(item, dict):
        raise UserError("is not an object", field=path)
    known = (*FIELDS, *_NEGATED, *_OTHERS)
    for key in item:
        if key not in known:
            raise UserError(f"{key!r} is no field", field=f"{path}.{key}", fix=f"Known: {', '.join(known)}")
    texts = {key: item.get(key, "") for key in ("source", "reason")} | {"id": item.get("id", f"{side.value}[{number}]")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise UserError("is not a text", field=f"{path}.{key}")
    if "allOf" not in item:
        parts: tuple[Region, ...] = (_region(item, side, path),)
    else:
        parts = _parts(item, side, path)
    for part in parts:
        space = Space((), [caller for caller in (part.caller, part.not_caller) if caller is not None])
        if isinstance(find_values(space.question(part.formula(space))), Empty):
            raise UserError(
                "no request lies in it",
                field=path,
                fix="A deletecollection has no name; a star in not… leaves none",
            )
    return Rule(texts["id"], side, parts, texts["source"], texts["reason"])


def _parts(item: dict[str, Any], side: Side, path: str) -> tuple[Region, ...]:
    if side is Side.FLOOR:
        raise UserError("is for the ceiling alone", field=f"{path}.allOf", fix="Give a floor rule for each")
    extra = set(item) - {"id", "allOf", "subject", "namespaces", "notNamespaces", "source", "reason"}
    if extra:
        raise UserError(f"does not go with {', '.join(sorted(extra))}", field=f"{path}.allOf")
    found = item["allOf"]
    if not isinstance(found, list) or len(found) < 2:
        raise UserError("is not a list of two or more", field=f"{path}.allOf")
    shared: dict[str, Any] = {key: item[key] for key in ("subject", "namespaces", "notNamespaces") if key in item}
    parts = []
    for index, part in enumerate(found):
        place = f"{path}.allOf[{index}]"
        if not isinstance(part, dict):
            raise UserError("is not an object", field=place)
        for key in part:
            if key not in (*FIELDS, *_NEGATED):
                raise UserError(f"{key!r} is no field here", field=f"{place}.{key}")
        parts.append(_region({**shared, **part}, side, place))
    return tuple(parts)


def _region(item: dict[str, Any], side: Side, path: str) -> Region:
    among: dict[str, Among] = {}
    for key, name in (*((name, name) for name in FIELDS), *_NEGATED.items()):
        if key in item:
            if name in among:
                raise UserError(f"does not go with {name}", field=f"{path}.{key}")
            among[name] = Among(_texts(item[key], f"{path}.{key}"), negated=key in _NEGATED)
    on_paths = "nonResourceURLs" in among
    if on_paths and set(among) - {"nonResourceURLs", "verbs"}:
        raise UserError("goes with verbs alone", field=f"{path}.nonResourceURLs")
    if side is Side.FLOOR:
        for name in ("verbs", *(("nonResourceURLs",) if on_paths else ("apiGroups", "resources"))):
            if name not in among:
                raise UserError(f"has no {name}", field=path, fix="A floor says what must be allowed")
        negated = next((name for name, found in among.items() if found.negated), None)
        if negated is not None:
            field = next(key for key, name in _NEGATED.items() if name == negated)
            raise UserError("is for the ceiling alone", field=f"{path}.{field}", fix=f"Say which {negated} are meant")
    for name, found in among.items():
        _matchable(name, found.items, f"{path}.{name}")
    callers = {key: _caller(item[key], f"{path}.{key}") if key in item else None for key in ("subject", "notSubject")}
    if "notSubject" in item and (side is Side.FLOOR or "subject" in item):
        why = "is for the ceiling alone" if side is Side.FLOOR else "does not go with subject"
        raise UserError(why, field=f"{path}.notSubject", fix="Say who is meant")
    return Region(
        **{FIELDS[name]: found for name, found in among.items()},
        caller=callers["subject"],
        not_caller=callers["notSubject"],
    )


def _matchable(name: str, items: tuple[str, ...], path: str) -> None:
    """Refuses words that match no request: a ceiling of them would hold whatever is given."""
    empty: dict[str, tuple[str, ...]] = dict.fromkeys(FIELDS.values(), ())
    field = {"names": "resource_names", "urls": "non_resource_urls"}
    if name in ("namespaces", "resourceNames"):
        if "*" in items:
            raise UserError("a star is a name here, not all of them", field=path, fix="Leave the field out")
        return
    words = {field.get(key, key): items if FIELDS[name] == key else value for key, value in empty.items()}
    words.pop("namespaces")
    for warning in rule_warnings(PolicyRule(**words), path):
        if "matches no" in warning:
            raise UserError(warning.partition(": ")[2], field=path, fix="Write it as requests have it")


def _texts(value: Any, path: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise UserError("is empty", field=path, fix="Leave it out")
    for item in items:
        if not isinstance(item, str):
            raise UserError(f"{item!r} is not a text", field=path, fix="Quote it")
    return tuple(dict.fromkeys(items))


def _caller(value: Any, path: str) -> Caller:
    """Who is meant: a user with the groups that are named, a service account, or somebody of a group."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or kind not in _SUBJECTS:
        raise UserError("is no subject", field=path, fix="Give kind (User, Group, ServiceAccount) and name")
    for key in value:
        if key not in ("kind", *_SUBJECTS[kind]):
            raise UserError(f"{key!r} is no field of a {kind}", field=f"{path}.{key}")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise UserError("is not a text", field=f"{path}.name", fix="Name one")
    if kind == "ServiceAccount":
        namespace = value.get("namespace")
        if not isinstance(namespace, str) or not namespace:
            raise UserError("is not a text", field=f"{path}.namespace", fix="Name that of the service account")
        return service_account(namespace, name)
    groups = _texts(value["groups"], f"{path}.groups") if "groups" in value else ()
    if MASTERS in (name, *groups):
        raise UserError(f"{MASTERS} may do everything, whatever the roles say", field=path, fix="Name somebody else")
    return user(name, *groups) if kind == "User" else user(FIRST, name)
