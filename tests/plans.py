"""Manifests small enough to work out by hand, and `medley` run on them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.cli.main import main

Json = dict[str, Any]
Manifest = dict[str, Any]

API = "medley.dev/v1alpha1"

# One replica: 7.2 req/s at 512/128 in the grid, × 0.9 derating of a measured profile = 6.48 req/s.
# The demand: 20 req/s × 1.1 headroom = 22 req/s. 22 / 6.48 = 3.395…: 4 replicas, on nodes of 1 GPU at $1: $4 per hour.
RATE = 20.0
REPLICAS = 4
NEED = RATE * 1.1 / (7.2 * 0.9)


def pool(name: str = "x", *, price: str = "1.00", gpus_per_node: int = 1, **spec: object) -> Manifest:
    return {
        "apiVersion": API,
        "kind": "GPUPool",
        "metadata": {"name": name},
        "spec": {
            "gpu": name.upper(),
            "gpusPerNode": gpus_per_node,
            "offerings": [{"pricePerNodeHour": price}],
            "provider": {"external": {}},
            **spec,
        },
    }


def profile(name: str = "x") -> Manifest:
    return {
        "apiVersion": API,
        "kind": "ThroughputProfile",
        "metadata": {"name": f"m-{name}"},
        "spec": {
            "key": {"model": "m", "gpu": name.upper()},
            "maxThroughput": {
                "slo": {"timePerOutputTokenMs": 120},
                "inputTokens": [128, 512, 2048],
                "outputTokens": [128, 512],
                "requestsPerSecond": [[9.1, 3.0], [7.2, 2.6], [2.2, 1.1]],
            },
            "provenance": {"kind": "Measured"},
        },
    }


def point(rate: float = RATE, inputs: int = 512, outputs: int = 128) -> Json:
    return {"inputTokens": inputs, "outputTokens": outputs, "requestsPerSecond": rate}


def service(name: str = "chat", *, rate: float = RATE, **spec: object) -> Manifest:
    return {
        "apiVersion": API,
        "kind": "LLMService",
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {
            "model": {"name": "m"},
            "slo": {"timePerOutputTokenMs": 120},
            "pools": ["x"],
            "workload": {"static": {"points": [point(rate)]}},
            **spec,
        },
    }


class Plans:
    """Runs `medley plan` on manifests."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        self.code = -1
        self.out = ""
        self.err = ""

    def file(self, name: str, *manifests: Manifest) -> str:
        path = self.directory / name
        path.write_text(yaml.safe_dump_all([copy.deepcopy(manifest) for manifest in manifests]))
        return str(path)

    def run(self, *arguments: str, command: str = "plan") -> int:
        self.code = main([command, *arguments])
        captured = self._capsys.readouterr()
        self.out, self.err = captured.out, captured.err
        return self.code

    def plan(self, *manifests: Manifest, arguments: tuple[str, ...] = ()) -> Json:
        """The JSON object for the manifests; it must be all of stdout."""
        self.run("-f", self.file("all.yaml", *manifests), "-o", "json", *arguments)
        return self.json()

    def json(self) -> Json:
        result: Json = json.loads(self.out)
        return result

    def one(self, *manifests: Manifest, arguments: tuple[str, ...] = ()) -> Json:
        """The only service of the plan."""
        [only] = self.plan(*manifests, arguments=arguments)["services"]
        result: Json = only
        return result
