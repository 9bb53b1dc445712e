"""Generates the policies that a service and the operator need, each with the access spec that it has to meet.

    service_parts(needs, environment) | operator_parts(needs, environment) → Part…
    Part: .name .kind .document_text .spec_text (floor and ceiling) .ceilings (shipped ones that suit it)
    check(part, prover, ceilings) → Checked: the verdict, proved by both engines
    merge_statements(part, statements, prover, ceilings) → Merged: with a user's own statements, or the refusal

One file per cloud behind the port `Cloud`. Documents and specs come from the same inputs by different functions.
"""

from __future__ import annotations

from medley.policy.generate.aws import Aws
from medley.policy.generate.check import Checked, check, check_text
from medley.policy.generate.inputs import (
    BucketPrefix,
    ClusterEnvironment,
    NodegroupPool,
    OperatorNeeds,
    RouterAccess,
    RouterNeeds,
    ServiceNeeds,
    Trust,
    bucket_prefix,
    partition_of,
)
from medley.policy.generate.kubernetes import Kubernetes
from medley.policy.generate.merge import Merged, MergeOutcome, merge_statements
from medley.policy.generate.part import Cloud, Part, PartName
from medley.policy.kind import PolicyKind

__all__ = [
    "Aws",
    "BucketPrefix",
    "Checked",
    "Cloud",
    "ClusterEnvironment",
    "Kubernetes",
    "MergeOutcome",
    "Merged",
    "NodegroupPool",
    "OperatorNeeds",
    "Part",
    "PartName",
    "PolicyKind",
    "RouterAccess",
    "RouterNeeds",
    "ServiceNeeds",
    "Trust",
    "bucket_prefix",
    "check",
    "check_text",
    "merge_statements",
    "operator_parts",
    "partition_of",
    "service_parts",
]


def service_parts(needs: ServiceNeeds, environment: ClusterEnvironment | None = None) -> tuple[Part, ...]:
    """All parts of a service; without an environment those of Kubernetes alone.

    Raises:
        UserError: a need does not fit the cloud.
    """
    cloud = None if environment is None else Aws(environment)
    return (*(() if cloud is None else cloud.service(needs)), *Kubernetes(cloud).service(needs))


def operator_parts(needs: OperatorNeeds, environment: ClusterEnvironment | None = None) -> tuple[Part, ...]:
    """All parts of the operator; without an environment those of Kubernetes alone.

    Raises:
        UserError: a need does not fit the cloud.
    """
    cloud = None if environment is None else Aws(environment)
    return (*(() if cloud is None else cloud.operator(needs)), *Kubernetes(cloud).operator(needs))
