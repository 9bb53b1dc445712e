"""`medley demo`: the offline plan at once, then the whole loop on this machine."""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

from rich.console import Console

from medley.api.convert import parse
from medley.api.manifests import read_manifests
from medley.cli.output import plan_object, print_plan
from medley.cli.plan import plan
from medley.lab.access_demo import run_access_demo
from medley.lab.demo import RATE_LEVEL, SHAPE, demo_trace, run_demo
from medley.lab.kind_scene import KindScene
from medley.lab.loop_scene import LoopScene
from medley.lab.scene import Scene, SceneSettings
from medley.lab.traces import recorded_trace
from medley.model.errors import UserError
from medley.workload.known import from_requests


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo", help="the whole loop on this machine",
        description="Starts a control plane, Prometheus, simulated GPUs and the operator; sends recorded traffic. "
        "With --duration the last line of stdout is one JSON object, all numbers.",
    )  # fmt: skip
    parser.add_argument("--duration", type=float, default=0.0, metavar="S", help="seconds of traffic; 0: until Ctrl-C")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default 1)")
    parser.add_argument(
        "--cluster",
        choices=("plain", "kind"),
        default="plain",
        help="plain: a control plane as processes, fake pods (default). kind: in containers, on the cluster of "
        "KUBECONFIG or a new one of kind",
    )
    parser.add_argument("-f", "--file", type=Path, help="another example")
    parser.add_argument(
        "--access-only",
        action="store_true",
        help="only what AccessPolicies do: a role is widened by hand, found, repaired, proved, written; ends by itself "
        "with one JSON object",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan offline, then live."""
    if not math.isfinite(args.duration) or args.duration < 0:
        raise UserError("must be 0 or more", field="--duration")
    console = Console(highlight=False)
    began_s = time.monotonic()

    def progress(line: str) -> None:
        console.print(f"[{time.monotonic() - began_s:6.1f} s] {line}", markup=False, soft_wrap=True)

    # Being told to end is a way to end, not a reason to leave things behind.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    example = args.file or example_file()
    if args.access_only:
        print(json.dumps(run_access_demo(example, progress)))
        return 0
    trace = recorded_trace()
    workload = from_requests(((r.input_tokens, r.output_tokens) for r in trace), trace[-1].at_s - trace[0].at_s)
    console.print(
        f"[bold]Offline plan[/bold] for {example.name} on the recorded traffic (Azure 2023 conversation, "
        f"{len(trace)} requests, {workload.rate_rps:.1f} req/s):"
    )
    problems, joint, messages = plan(parse(read_manifests([example])), workload, None)
    print_plan(plan_object(problems, joint, messages, {}), console)
    sent = demo_trace(args.duration or 120.0, args.seed)
    shape = ", ".join(f"{value:g}× at {at:.0%}" for at, value in SHAPE.points)
    console.print(
        f"\n[bold]Live[/bold]: the same traffic at {RATE_LEVEL:g} of its rate, with this shape laid over it: {shape} "
        f"({len(sent)} requests). GPUs are simulated, with true speeds ±10 % off their profiles; all else is real."
    )

    try:
        settings = SceneSettings(seed=args.seed)
        scene: AbstractContextManager[LoopScene] = (
            KindScene([example], settings, progress=progress)
            if args.cluster == "kind"
            else Scene([example], settings, progress=progress)
        )
        summary = run_demo(scene, args.duration, console, progress, args.seed)
    except KeyboardInterrupt:
        console.print("stopped; nothing is left behind")
        return 130
    print(json.dumps({name: None if math.isnan(value) else value for name, value in summary.items()}))
    return 0


def example_file() -> Path:
    """The shipped example: beside the sources, or in the installed package."""
    beside = Path(__file__).parents[3] / "examples" / "chat.yaml"
    if beside.is_file():
        return beside
    return Path(str(resources.files("medley").joinpath("examples", "chat.yaml")))
