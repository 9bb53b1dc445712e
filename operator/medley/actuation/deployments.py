"""One Deployment per variant: rendered in full, applied server-side."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from medley.actuation.cluster_api import ClusterApi, PatchType
from medley.model.engine import ChunkedPrefill, EngineFlags
from medley.model.errors import UserError
from medley.model.objects import API_VERSION, CapacityType, Pool, Service, ServiceKey, VariantSpec

FIELD_MANAGER = "medley"
MANAGED = {"app.kubernetes.io/managed-by": "medley"}
SERVICE_LABEL = "medley.dev/service"
VARIANT_LABEL = "medley.dev/variant"
POOL_LABEL = "medley.dev/pool"
GPUS_LABEL = "medley.dev/gpus"
"""GPUs of one replica: with the pool, what a variant that is no longer listed still uses."""
DRAIN_S = 120
"""A terminating pod may take this long to finish the requests it has."""

Manifest = dict[str, Any]


def deployment_name(service: ServiceKey, variant: str) -> str:
    """service-variant; with a hash if that could be another service's name too, or would not fit a label."""
    name = f"{service.name}-{variant}"
    if len(name) <= 52 and "-" not in service.name + variant:
        return name
    digest = hashlib.sha256(f"{service.name}/{variant}".encode()).hexdigest()[:8]
    return f"{name[:43].rstrip('-.')}-{digest}"


def owner_reference(service: Service) -> Manifest:
    """Deleting the LLMService deletes what was created for it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "LLMService",
        "name": service.key.name,
        "uid": service.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def flag_arguments(flags: EngineFlags) -> list[str]:
    """VLLM's arguments for the flags that a profile is of (vLLM 0.11 engine arguments)."""
    out = []
    if flags.quantization:
        out += ["--quantization", flags.quantization]
    if flags.kv_cache_dtype:
        out += ["--kv-cache-dtype", flags.kv_cache_dtype]
    if flags.speculative is not None:
        draft: dict[str, object] = {
            "method": flags.speculative.method,
            "num_speculative_tokens": flags.speculative.tokens,
        }
        if flags.speculative.draft_model:
            draft["model"] = flags.speculative.draft_model
        out += ["--speculative-config", json.dumps(draft)]
    if flags.chunked_prefill is not ChunkedPrefill.DEFAULT:
        on = flags.chunked_prefill is ChunkedPrefill.ENABLED
        out.append("--enable-chunked-prefill" if on else "--no-enable-chunked-prefill")
    return out


def render(
    service: Service,
    pool: Pool,
    variant: str,
    replicas: int,
    *,
    spec: VariantSpec,
    capacity_type: CapacityType,
    image: str,
    args: list[str],
    port: int,
    service_account: str | None = None,
) -> Manifest:
    """The Deployment of one variant. `service_account` None: its pods run as the namespace's default.

    Raises:
        UserError: a replica would span nodes, which a Deployment's pod cannot.
    """
    tensor_parallel_size = spec.tensor_parallel_size
    if tensor_parallel_size > pool.gpus_per_node:
        raise UserError(
            f"a replica on {tensor_parallel_size} GPUs spans nodes of {pool.gpus_per_node}; only plans can hold it yet",
            field=f"LLMService/{service.key} spec.variants[].tensorParallelSize",
            fix=f"Use {pool.gpus_per_node} or less on pool {pool.name}",
        )
    identity = {SERVICE_LABEL: service.key.name, VARIANT_LABEL: variant}
    labels = {**MANAGED, **identity, POOL_LABEL: pool.name, GPUS_LABEL: str(tensor_parallel_size)}
    command = ["--model", service.model_name, "--port", str(port)]
    if service.max_model_len is not None:
        command += ["--max-model-len", str(service.max_model_len)]
    if tensor_parallel_size > 1:
        command += ["--tensor-parallel-size", str(tensor_parallel_size)]
    command += flag_arguments(spec.flags)
    selector = dict(pool.node_selector)
    if len(pool.offerings) > 1:
        # Karpenter's label is what clouds and autoscalers agree on for the way a node is bought.
        spot = capacity_type is CapacityType.SPOT
        selector["karpenter.sh/capacity-type"] = "spot" if spot else "on-demand"
    container: Manifest = {
        "name": "engine",
        "image": image,
        "args": [*command, *args],
        "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
        "resources": {"limits": {"nvidia.com/gpu": str(tensor_parallel_size)}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(service.key, variant),
            "namespace": service.key.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": identity},
            # A changed template brings up the new replica before it takes the old one away.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)},
                },
                "spec": {
                    "nodeSelector": selector,
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                    # An engine calls no API of the cluster, whoever it runs as.
                    "automountServiceAccountToken": False,
                    **({"serviceAccountName": service_account} if service_account else {}),
                    "terminationGracePeriodSeconds": DRAIN_S,
                    "containers": [container],
                },
            },
        },
    }


def apply(api: ClusterApi, manifest: Manifest) -> None:
    """Create or update the Deployment; fields of other owners stay theirs, ours are corrected."""
    metadata = manifest["metadata"]
    api.patch(
        f"/apis/apps/v1/namespaces/{metadata['namespace']}/deployments/{metadata['name']}",
        manifest,
        PatchType.APPLY,
        fieldManager=FIELD_MANAGER,
        force="true",
    )


def scale(api: ClusterApi, namespace: str, name: str, replicas: int) -> None:
    """Set replicas of a Deployment whose variant is no longer listed, leaving its template alone."""
    api.patch(
        f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale",
        {"spec": {"replicas": replicas}},
        PatchType.MERGE,
        fieldManager=FIELD_MANAGER,
    )
