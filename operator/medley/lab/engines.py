"""What stands behind the lab's GPU pods: one simulated vLLM server each, on the pod's own address."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from medley.actuation.deployments import DRAIN_S, VARIANT_LABEL
from medley.lab.pods import PodInfo
from medley.lab.vllm_engine import perturbed
from medley.lab.vllm_server import DEFAULT_MAX_MODEL_LEN, SimulatedPods
from medley.model.errors import UserError
from medley.profiles.step import StepModel


class SimulatedEngines:
    """A `PodBackend`: pods of a variant run at the variant's speed, which is not quite its profile's.

    Args:
        speeds: step model by variant, as the profile has it.
        seed: of the ±10 % by which each variant's true constants differ, and of the noise of each pod.
    """

    def __init__(self, speeds: Mapping[str, StepModel], *, seed: int) -> None:
        self._seed = seed
        self.truth = {
            variant: perturbed(model, seed=seed + zlib.crc32(variant.encode())) for variant, model in speeds.items()
        }
        self._pods = SimulatedPods()

    def start(self, pod: PodInfo) -> None:
        """Start the pod's server.

        Raises:
            UserError: the pod's variant has no step model.
        """
        variant = pod.labels.get(VARIANT_LABEL, "")
        if variant not in self.truth:
            raise UserError(f"no step model for variant {variant!r}", field=f"pod {pod.name}")
        self._pods.start(
            pod.uid,
            pod.ip,
            pod.container_port or 8000,
            model_name=_argument(pod, "--model") or "model",
            step_model=self.truth[variant],
            max_model_len=int(_argument(pod, "--max-model-len") or DEFAULT_MAX_MODEL_LEN),
            seed=self._seed + zlib.crc32(pod.uid.encode()),
        )

    def stop(self, pod: PodInfo) -> None:
        """Stop it once its requests are answered."""
        self._pods.stop(pod.uid, timeout_s=DRAIN_S - 5.0)

    def close(self) -> None:
        """Stop all of them."""
        self._pods.close()


def _argument(pod: PodInfo, name: str) -> str | None:
    """Value of a command-line argument of the container."""
    values = dict(zip(pod.args, pod.args[1:], strict=False))
    return values.get(name)
