"""Parts: what is generated, each a document with the access spec that it has to meet; and the port of a cloud."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import yaml

from medley.policy.generate.inputs import OperatorNeeds, ServiceNeeds
from medley.policy.iam.render import SizeLimit
from medley.policy.kind import PolicyKind

Json = dict[str, Any]


class PartName(Enum):
    """What a part is for."""

    POD_POLICY = "pod-policy"
    POD_TRUST = "pod-trust"
    IMAGE_PULL = "image-pull"
    SERVICE_ACCOUNT = "service-account"
    ROUTER = "router"
    OPERATOR_POLICY = "operator-policy"
    OPERATOR_TRUST = "operator-trust"
    OPERATOR_ROLES = "operator-roles"


@dataclass(frozen=True, slots=True)
class Part:
    """A document and its spec.

    Attributes:
        name: what it is for.
        owner: `LLMService/namespace/name` or `operator`.
        kind: of document.
        document: one IAM document, or for RBAC the list of Kubernetes objects.
        spec: floor and ceiling, as `spec.read` (IAM) or `rbac.spec` takes them. The ceiling is everything but what the
            inputs ask for.
        outer: ceiling rules that hold even where a user adds statements of their own.
        ceilings: names of shipped ceilings that suit it.
        role: IAM role that it belongs to; empty: none of ours (RBAC, and image pull, which is the nodes').
        limit: longest document, in characters, if the cloud has one.
    """

    name: PartName
    owner: str
    kind: PolicyKind
    document: Json | list[Json]
    spec: Json
    outer: tuple[Json, ...] = ()
    ceilings: tuple[str, ...] = ()
    role: str = ""
    limit: SizeLimit | None = None

    @property
    def document_text(self) -> str:
        """The document as it is applied: JSON for IAM, YAML for Kubernetes."""
        if isinstance(self.document, list):
            return yaml_text(self.document)
        return json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"

    @property
    def spec_text(self) -> str:
        """The spec as YAML."""
        return yaml_text([self.spec])

    @property
    def title(self) -> str:
        """Owner and name, as in `operator operator-trust`."""
        return f"{self.owner} {self.name.value}"


class _Dumper(yaml.SafeDumper):
    """Writes equal lists out each time: our readers take no aliases."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def yaml_text(values: Sequence[Json]) -> str:
    """Values as YAML documents."""
    return yaml.dump_all(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class Cloud(Protocol):
    """The port behind which each cloud has one file. Pure: values in, documents out.

    Its parts are empty where nothing of that cloud is needed. All methods raise UserError where a need does not fit the
    cloud: a name too long for it, an object of another account.
    """

    def service(self, needs: ServiceNeeds) -> tuple[Part, ...]:
        """What a service's pods, and the nodes for them, need of the cloud."""
        ...

    def operator(self, needs: OperatorNeeds) -> tuple[Part, ...]:
        """What the operator needs of it."""
        ...

    def annotations(self, needs: ServiceNeeds | OperatorNeeds) -> Mapping[str, str]:
        """What a ServiceAccount has to say for its pods to get their role."""
        ...
