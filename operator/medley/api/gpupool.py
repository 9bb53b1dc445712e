"""GPUPool: a source of like nodes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medley.api.fields import ApiModel, K8s, Name, Price, Text, cel


class OfferingSpec(ApiModel):
    """One way to buy the pool's nodes."""

    capacity_type: Literal["OnDemand", "Spot"] = Field("OnDemand", description="How a node is bought.")
    zones: list[Text] | None = Field(None, max_length=32, description="Zones the offering is sold in; unset: any.")
    price_per_node_hour: Price | None = Field(
        None, description="Price of one node in $ per hour, as a string. Unset: the catalogue's list price."
    )
    max_nodes: int | None = Field(
        None, ge=0, le=100_000, description="Nodes of this offering that can be had: a quota, or 0 in a stockout."
    )


class LimitsSpec(ApiModel):
    """Bounds of the pool."""

    nodes: int | None = Field(None, ge=0, le=100_000, description="Most nodes, over all offerings together.")


class ScaleSpec(ApiModel):
    """An object with the scale subresource."""

    api_version: Text = Field(description="API version of the object, for example karpenter.sh/v1.")
    kind: Text = Field(description="Kind of the object.")
    name: Text = Field(description="Name of the object.")
    namespace: Name | None = Field(None, description="Its namespace; unset for a cluster-scoped object.")


class ExternalSpec(ApiModel):
    """Nothing to set: something else brings nodes for pending pods and removes idle ones."""


class ProviderSpec(ApiModel):
    """How the pool is scaled: exactly one."""

    scale: ScaleSpec | None = Field(None, description="Set replicas of this object to the number of nodes.")
    external: ExternalSpec | None = Field(
        None, description="Medley does not scale the pool: a cluster autoscaler brings nodes for pending pods."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> ProviderSpec:
        if (self.scale is None) == (self.external is None):
            raise ValueError("set exactly one of scale and external")
        return self


class GPUPoolSpec(ApiModel):
    """What a platform engineer declares about one kind of GPU node."""

    instance_type: Text | None = Field(
        None, description="Cloud instance type. A catalogue entry fills gpu, gpusPerNode and the list price."
    )
    gpu: Text | None = Field(
        None, description="GPU type, any string; profiles refer to it. Needed without a catalogue entry."
    )
    gpus_per_node: int | None = Field(
        None, ge=1, le=64, description="GPUs on one node. Needed without a catalogue entry."
    )
    offerings: list[OfferingSpec] | None = Field(
        None,
        min_length=1,
        max_length=2,
        description="Ways to buy nodes. Unset: OnDemand at the catalogue's list price.",
        json_schema_extra=K8s(**{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["capacityType"]}),
    )
    limits: LimitsSpec | None = Field(None, description="Bounds of the pool. Unset: none.")
    committed_nodes: int = Field(
        0, ge=0, le=100_000, description="OnDemand nodes that are already paid for: using them costs nothing more."
    )
    node_selector: dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]] | None = Field(
        None,
        max_length=16,
        description="Labels of the nodes. Unset: node.kubernetes.io/instance-type, or medley.dev/pool without one.",
    )
    provider: ProviderSpec = Field(description="How the pool is scaled.")

    @model_validator(mode="after")
    def _one_offering_per_capacity_type(self) -> GPUPoolSpec:
        types = [offering.capacity_type for offering in self.offerings or []]
        if len(set(types)) != len(types):
            raise ValueError("offerings: one offering per capacityType")
        if self.provider.scale is not None and len(types) > 1:
            raise ValueError("offerings: a pool with provider.scale has one, since one object scales its nodes")
        if self.committed_nodes and types and "OnDemand" not in types:
            raise ValueError("committedNodes: needs an OnDemand offering, which committed nodes offset")
        return self


GPUPOOL_RULES = cel(
    ("has(self.instanceType) || (has(self.gpu) && has(self.gpusPerNode))", "set instanceType, or gpu and gpusPerNode"),
    ("has(self.provider.scale) != has(self.provider.external)", "provider: set exactly one of scale and external"),
    (
        "!has(self.provider.scale) || !has(self.offerings) || size(self.offerings) <= 1",
        "offerings: a pool with provider.scale has one, since one object scales its nodes",
    ),
    (
        "!has(self.committedNodes) || self.committedNodes == 0 || !has(self.offerings) || "
        "self.offerings.exists(o, o.capacityType == 'OnDemand')",
        "committedNodes: needs an OnDemand offering, which committed nodes offset",
    ),
)
