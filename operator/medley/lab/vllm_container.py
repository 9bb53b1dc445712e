"""The vLLM simulator as the command of a container: it takes the arguments that Medley gives to vLLM.

A real engine sees its GPU as a device. Medley gives all variants of a service the same image and nearly the same
arguments, so the speeds of all of them are arguments here, and the pod's name (SERVICE-VARIANT-…) says which counts.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict

from medley.lab import vllm_server
from medley.lab.vllm_server import DEFAULT_MAX_MODEL_LEN
from medley.model.errors import UserError
from medley.profiles.step import StepModel

STREAM_INTERVAL = 16
"""Tokens per chunk: a chunk costs more than all else a token costs, and latencies over a whole request are the same."""


def speed_argument(variant: str, model: StepModel) -> str:
    """The value of `--speed` for one variant."""
    return f"{variant}={json.dumps(asdict(model), separators=(',', ':'))}"


def variant_of(pod: str, variants: Sequence[str]) -> str:
    """The variant that a pod's name contains between dashes; the longest, where one is the beginning of another.

    Raises:
        UserError: it contains none of them.
    """
    found = [variant for variant in variants if f"-{variant}-" in pod]
    if not found:
        raise UserError(
            f"the pod's name {pod!r} has none of the variants {', '.join(variants) or '(none)'} in it",
            field="--speed",
            fix="Give the speed of each variant as VARIANT=JSON",
        )
    return max(found, key=len)


def server_arguments(arguments: Sequence[str] | None, pod: str) -> tuple[list[str], float]:
    """Arguments of `medley.lab.vllm_server`, and the seconds to wait before it, from those of the container.

    Raises:
        UserError: no speed is given for the pod's variant.
    """
    parser = argparse.ArgumentParser(prog="python -m medley.lab.vllm_container", description=main.__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-model-len", type=int, default=DEFAULT_MAX_MODEL_LEN)
    for ignored in ("--tensor-parallel-size", "--quantization", "--kv-cache-dtype", "--speculative-config"):
        parser.add_argument(ignored, help="as vLLM's; changes nothing: it is in the speed")
    parser.add_argument("--enable-chunked-prefill", action=argparse.BooleanOptionalAction, help="likewise")
    parser.add_argument("--speed", action="append", default=[], metavar="VARIANT=JSON", help="fields of StepModel")
    parser.add_argument("--ready-after", type=float, default=0.0, metavar="S", help="as if weights were loaded")
    parser.add_argument("--seed", type=int, default=1, help="of each variant's deviation from its profile")
    options = parser.parse_args(arguments)
    speeds = dict(each.partition("=")[::2] for each in options.speed)
    variant = variant_of(pod, list(speeds))
    given = [
        "--host", "", "--port", str(options.port), "--model-name", options.model,
        "--max-model-len", str(options.max_model_len), "--profile-constants", speeds[variant],
        "--seed", str(options.seed + zlib.crc32(variant.encode())), "--stream-interval", str(STREAM_INTERVAL),
    ]  # fmt: skip
    return given, options.ready_after


def main(arguments: Sequence[str] | None = None) -> None:
    """Plays one replica until SIGTERM, then drains it."""
    # The first process of a container has no default handlers: without one it could not be ended before it serves.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        given, ready_after_s = server_arguments(arguments, socket.gethostname())
    except UserError as error:
        sys.exit(f"vllm_container: {error}")
    time.sleep(ready_after_s)
    vllm_server.main(given)


if __name__ == "__main__":
    main()
