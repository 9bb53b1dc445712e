"""Generates structural CRDs from the API models.

The apiserver takes less than pydantic emits: no $ref, no anyOf-null, no const, no numeric exclusiveMinimum, no
additionalProperties beside properties. Each rewrite below answers one of these refusals (seen on a real apiserver).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from medley.api.accesspolicy import ACCESSPOLICY_RULES, AccessPolicySpec, AccessPolicyStatus
from medley.api.fields import ApiModel
from medley.api.gpupool import GPUPOOL_RULES, GPUPoolSpec
from medley.api.llmservice import LLMSERVICE_RULES, LLMServiceSpec, LLMServiceStatus
from medley.api.throughputprofile import PROFILE_RULES, ThroughputProfileSpec
from medley.model.objects import API_GROUP, API_VERSION

GROUP = API_GROUP
VERSION = API_VERSION.split("/")[1]


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    scope: str
    description: str
    spec: type[ApiModel]
    rules: list[dict[str, str]]
    status: type[ApiModel] | None
    columns: tuple[Column, ...]

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


AGE = Column("Age", ".metadata.creationTimestamp", "date")

PLANNING_KINDS: tuple[Kind, ...] = (
    Kind(
        "GPUPool",
        "gpupools",
        ("gpool",),
        "Cluster",
        "A source of like GPU nodes.",
        GPUPoolSpec,
        GPUPOOL_RULES,
        None,
        (
            Column("Instance", ".spec.instanceType"),
            Column("GPU", ".spec.gpu"),
            Column("Limit", ".spec.limits.nodes", "integer"),
            Column("Committed", ".spec.committedNodes", "integer", 1),
            AGE,
        ),
    ),
    Kind(
        "LLMService",
        "llmservices",
        ("llm",),
        "Namespaced",
        "One model served under one SLO at the lowest GPU cost.",
        LLMServiceSpec,
        LLMSERVICE_RULES,
        LLMServiceStatus,
        (
            Column("Model", ".spec.model.name"),
            Column("Mode", ".spec.mode"),
            Column("Ready", ".status.ready"),
            Column("SLO", ".status.slo"),
            Column("Rate", ".status.rate"),
            Column("GPUs", ".status.gpus", "integer"),
            Column("Cost/Hr", ".status.costPerHour"),
            Column("Saved", ".status.savedPercent"),
            Column("Best-Single", ".status.bestSingleCostPerHour", priority=1),
            AGE,
        ),
    ),
    Kind(
        "ThroughputProfile",
        "throughputprofiles",
        ("tprof",),
        "Cluster",
        "How fast one replica is.",
        ThroughputProfileSpec,
        PROFILE_RULES,
        None,
        (
            Column("Model", ".spec.key.model"),
            Column("GPU", ".spec.key.gpu"),
            Column("TP", ".spec.key.tensorParallelSize", "integer"),
            Column("Provenance", ".spec.provenance.kind"),
            AGE,
        ),
    ),
)
"""What the planning loop reads."""

ACCESS_KIND = Kind(
    "AccessPolicy",
    "accesspolicies",
    ("apol",),
    "Namespaced",
    "What somebody may do, held to a floor and a ceiling.",
    AccessPolicySpec,
    ACCESSPOLICY_RULES,
    AccessPolicyStatus,
    (
        Column("Mode", ".spec.mode"),
        Column("Source", ".status.source"),
        Column("Verdict", ".status.verdict"),
        Column("Repair", ".status.repair.outcome"),
        Column("Written", ".status.conditions[?(@.type=='Written')].reason"),
        AGE,
    ),
)
"""What `medley access` reads."""

KINDS = (*PLANNING_KINDS, ACCESS_KIND)

_DROP = {
    "title",
    "examples",
    "discriminator",
    "const",
    "additionalProperties",
    "$defs",
    "exclusiveMinimum",
    "exclusiveMaximum",
}


def structural(model: type[ApiModel]) -> dict[str, Any]:
    """OpenAPI v3 schema of a model in the structural form that the apiserver accepts."""
    root = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(root, root.get("$defs", {}))


def _convert(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """One schema node, with references inlined; keys beside a $ref (description, default) win over its target's."""
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[1]]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _convert({**target, **beside}, defs)
    options = node.get("anyOf")
    if options is not None:
        real = [option for option in options if option.get("type") != "null"]
        assert len(real) == 1, "only T | None has a structural form"
        beside = {key: value for key, value in node.items() if key != "anyOf"}
        # An absent field and null mean the same here; a null that is not nullable is dropped by the apiserver.
        return _convert({**real[0], **beside}, defs)
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "const":
            out["enum"] = [value]
        elif key == "exclusiveMinimum":
            out["minimum"], out["exclusiveMinimum"] = value, True
        elif key == "exclusiveMaximum":
            out["maximum"], out["exclusiveMaximum"] = value, True
        elif key == "properties":
            out[key] = {name: _convert(child, defs) for name, child in value.items()}
        elif key == "items":
            out[key] = _convert(value, defs)
        elif key == "propertyNames" or (key == "default" and value is None):
            continue
        elif key == "additionalProperties" and isinstance(value, dict):
            out[key] = _convert(value, defs)
        elif key not in _DROP:
            out[key] = value
    return out


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    spec = structural(kind.spec)
    if kind.rules:
        spec["x-kubernetes-validations"] = kind.rules
    properties: dict[str, Any] = {
        "apiVersion": {"type": "string", "description": "API version of the object."},
        "kind": {"type": "string", "description": "Kind of the object."},
        "metadata": {"type": "object"},
        "spec": spec,
    }
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            {
                "name": column.name,
                "type": column.type,
                "jsonPath": column.json_path,
                **({"priority": column.priority} if column.priority else {}),
            }
            for column in kind.columns
        ],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": kind.description,
                "required": ["spec"],
                "properties": properties,
            }
        },
    }
    if kind.status is not None:
        properties["status"] = structural(kind.status)
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "scope": kind.scope,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": list(kind.short_names),
                "categories": ["medley"],
            },
            "versions": [version],
        },
    }


def crd_files() -> dict[str, str]:
    """File name → YAML of every CRD, as they stand in `crds/`."""
    header = "# Generated by `make generate` from operator/medley/api: edit there.\n"
    return {
        f"{GROUP}_{kind.plural}.yaml": header + yaml.safe_dump(crd(kind), sort_keys=False, width=120) for kind in KINDS
    }
