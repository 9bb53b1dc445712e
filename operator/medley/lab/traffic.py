"""Live traffic inside a cluster: the router and the load generator of one service, in a container, told over HTTP.

Pods' addresses lead nowhere outside most clusters, so whoever measures latencies as a client does has to be inside.
POST /trace begins a trace and ends the one before, DELETE /trace ends it, GET /state says what clients experienced.
The way in is the API server's proxy to the Service, so that a kubeconfig is enough (`RemoteLoad` is the other end).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from aiohttp import web

from medley.actuation.cluster_api import ClusterApi
from medley.lab.gateway import Gateway
from medley.lab.load import LoadGenerator, Outcome, OutcomeStatus
from medley.lab.router import Router, Target
from medley.lab.traces import Trace, TraceRequest
from medley.model.errors import MedleyError, UserError
from medley.model.objects import ServiceKey

PORT = 8080
Json = dict[str, Any]


class Through(StrEnum):
    """How requests reach a replica."""

    ROUTER = "Router"
    """By the routing table that Medley publishes, straight to pods; what a gateway does."""
    SERVICE = "Service"
    """By the Kubernetes Service: the cluster's own balancing of connections. Nobody acknowledges the table then."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to send from now on."""

    trace: Trace
    model_name: str


def order_body(order: Order) -> Json:
    """As the body of POST /trace."""
    requests = [[round(r.at_s, 4), r.input_tokens, r.output_tokens] for r in order.trace]
    return {"model": order.model_name, "requests": requests}


def parse_order(body: object) -> Order:
    """Reads and checks the body of POST /trace.

    Raises:
        UserError: names the field that is wrong.
    """
    if not isinstance(body, dict):
        raise UserError("not a JSON object", field="body")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise UserError(f"{model!r} is not a name", field="model")
    rows = body.get("requests")
    if not isinstance(rows, list):
        raise UserError("not a list", field="requests")
    trace = tuple(_request(row, f"requests[{number}]") for number, row in enumerate(rows))
    for number, (earlier, later) in enumerate(pairwise(trace)):
        if later.at_s < earlier.at_s:
            raise UserError("is before the one before it", field=f"requests[{number + 1}]")
    return Order(trace, model)


def _request(row: object, field: str) -> TraceRequest:
    if not isinstance(row, list) or len(row) != 3 or not all(isinstance(value, int | float) for value in row):
        raise UserError("not [seconds, input tokens, output tokens]", field=field)
    at_s, inputs, outputs = row
    if not math.isfinite(at_s) or at_s < 0 or inputs < 1 or outputs < 1:
        raise UserError(f"{row} has a negative time or no tokens", field=field)
    return TraceRequest(float(at_s), int(inputs), int(outputs))


def outcome_row(outcome: Outcome) -> list[Any]:
    """An outcome as JSON, its fields in order; a latency that there is not is null."""
    return [None if isinstance(v, float) and math.isnan(v) else v for v in asdict(outcome).values()]


def parse_outcome(row: Sequence[Any]) -> Outcome:
    """The other way round."""
    at_s, inputs, outputs, ttft_ms, tpot_ms, variant, status = row
    return Outcome(
        at_s, inputs, outputs, math.nan if ttft_ms is None else ttft_ms, math.nan if tpot_ms is None else tpot_ms,
        variant, OutcomeStatus(status),
    )  # fmt: skip


class Traffic:
    """The HTTP side of one service's load.

    Args:
        load_of: makes the load generator for an order.
    """

    def __init__(self, load_of: Callable[[Order], LoadGenerator]) -> None:
        self._load_of = load_of
        self._load: LoadGenerator | None = None
        self._changing = asyncio.Lock()

    def application(self) -> web.Application:
        """What is served."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/trace", self._begin)
        app.router.add_delete("/trace", self._end)
        app.router.add_get("/state", self._state)
        app.router.add_get("/healthz", self._healthy)
        return app

    async def _begin(self, request: web.Request) -> web.Response:
        try:
            order = parse_order(json.loads(await request.read()))
        except (ValueError, MedleyError) as error:
            return web.json_response({"message": str(error)}, status=400)
        async with self._changing:
            await self._stop()
            self._load = self._load_of(order)
            self._load.start()
        return web.json_response({"requests": len(order.trace)})

    async def _end(self, _: web.Request) -> web.Response:
        async with self._changing:
            await self._stop()
        return web.json_response({})

    async def _stop(self) -> None:
        """What was experienced stays to be read until the next trace begins."""
        if self._load is not None:
            await asyncio.to_thread(self._load.stop)

    async def _state(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdecimal():
            return web.json_response({"message": f"since: {since!r} is not a whole number"}, status=400)
        load = self._load
        if load is None:
            return web.json_response({"elapsedSeconds": None, "inFlight": 0, "outcomes": []})
        rows = [outcome_row(outcome) for outcome in load.outcomes()[int(since) :]]
        return web.json_response({"elapsedSeconds": load.elapsed_s, "inFlight": load.in_flight, "outcomes": rows})

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.json_response({})


def main(arguments: Sequence[str] | None = None) -> None:
    """Routes and sends for one service, until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m medley.lab.traffic", description=main.__doc__)
    parser.add_argument("--service", required=True, metavar="NAMESPACE/NAME", help="an LLMService")
    parser.add_argument("--url", required=True, help="of the Kubernetes Service in front of it")
    parser.add_argument("--through", type=Through, choices=list(Through), default=Through.ROUTER)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    namespace, _, name = options.service.partition("/")
    if not namespace or not name:
        parser.error(f"--service: {options.service!r} is not NAMESPACE/NAME")

    with ExitStack() as stack:
        if options.through is Through.ROUTER:
            key, rng = ServiceKey(namespace, name), random.Random(options.seed)
            gateway = Gateway(None, key, clock=time.time, rng=rng).start()
            stack.callback(gateway.stop)
            traffic = Traffic(lambda order: routed(gateway.router, order))
        else:
            target = Target("", options.url)
            traffic = Traffic(lambda order: LoadGenerator(order.trace, lambda _: target, model_name=order.model_name))
        # run_app ends at SIGTERM and SIGINT.
        web.run_app(traffic.application(), port=options.port, access_log=None, print=None)


def routed(router: Router, order: Order) -> LoadGenerator:
    """A load generator whose requests a router places."""
    return LoadGenerator(
        order.trace, router.pick, repick=router.pick_other, done=router.done, model_name=order.model_name
    )


class RemoteLoad:
    """A `LoadGenerator` that runs in the cluster: the other end of `Traffic`.

    Args:
        api: of the cluster.
        path: of the Service of the traffic's container, as the API server has it.
        order: what to send.
    """

    def __init__(self, api: ClusterApi, path: str, order: Order) -> None:
        self._api = api
        self._proxy = f"{path}/proxy"
        self._order = order
        self._outcomes: list[Outcome] = []
        self._in_flight = 0
        self._elapsed_s = math.nan

    def start(self) -> None:
        """Begin to send; what another began ends."""
        self._api.create(f"{self._proxy}/trace", order_body(self._order))

    def stop(self) -> None:
        """Break off."""
        self._api.delete(f"{self._proxy}/trace")

    def outcomes(self) -> tuple[Outcome, ...]:
        """All so far, in order of completion."""
        state = self._api.get(f"{self._proxy}/state", since=str(len(self._outcomes)))
        self._outcomes += [parse_outcome(row) for row in state["outcomes"]]
        self._in_flight = int(state["inFlight"])
        self._elapsed_s = math.nan if state["elapsedSeconds"] is None else float(state["elapsedSeconds"])
        return tuple(self._outcomes)

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended, when `outcomes` was asked last."""
        return self._in_flight

    @property
    def elapsed_s(self) -> float:
        """Seconds since the trace began, when `outcomes` was asked last; NaN before."""
        return self._elapsed_s


if __name__ == "__main__":
    main()
