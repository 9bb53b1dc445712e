"""The Prometheus adapter against a server that answers oddly, as real ones do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from medley.model.objects import ServiceKey, Slo
from medley.telemetry.prometheus import PrometheusSource

KEY = ServiceKey("default", "chat")
Answer = Callable[[str], list[tuple[dict[str, str], str]]]


class Server:
    def __init__(self) -> None:
        self.answer: Answer = lambda _: []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlparse(self.path).query).get("query", [""])[0]
                rows = [{"metric": labels, "value": [0, value]} for labels, value in outer.answer(query)]
                body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": rows}}).encode()
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def whole(query: str) -> list[tuple[dict[str, str], str]]:
    if "histogram_quantile" in query:
        return [({}, "0.5")]
    if "_bucket" in query:
        return [({"pod": "chat-a", "le": le}, value) for le, value in (("100", "1"), ("200", "3"), ("+Inf", "3"))]
    if "_sum" in query:
        return [({"pod": "chat-a"}, "450")]
    return [({"pod": "chat-a"}, "2")]


def test_cumulative_rates_become_cells(server: Server) -> None:
    server.answer = whole
    (sample,) = PrometheusSource(server.url).sample(KEY, Slo(120), ["chat-a"]).replicas
    assert sample.prompt is not None
    assert sample.prompt.rates_rps == (1.0, 2.0, 0.0)
    assert sample.prompt.tokens_per_s == 450
    assert not sample.fault


def test_latency_is_in_ms_and_nan_is_none(server: Server) -> None:
    server.answer = whole
    assert PrometheusSource(server.url).sample(KEY, Slo(120), ["chat-a"]).latency.tpot_ms == pytest.approx(500)
    server.answer = lambda query: [({}, "NaN")] if "quantile" in query else whole(query)
    assert PrometheusSource(server.url).sample(KEY, Slo(120), ["chat-a"]).latency.tpot_ms is None


def test_a_vanished_gauge_is_a_fault_although_rates_go_on(server: Server) -> None:
    server.answer = lambda query: [] if query.startswith("sum by (pod) (vllm:num_requests_running") else whole(query)
    (sample,) = PrometheusSource(server.url).sample(KEY, Slo(120), ["chat-a"]).replicas
    assert "scrape" in sample.fault


def test_absent_series_are_none_and_not_zero(server: Server) -> None:
    (sample,) = PrometheusSource(server.url).sample(KEY, Slo(120), ["chat-a"]).replicas
    assert sample.started_rps is None
    assert sample.prompt is None


@pytest.mark.parametrize("status", [400, 500, 503])
def test_a_failing_server_is_a_fault_of_all(server: Server, status: int) -> None:
    server.status = status
    samples = PrometheusSource(server.url).sample(KEY, Slo(120), ["chat-a"])
    assert "Prometheus does not answer" in samples.fault


def test_no_server_is_a_fault_at_once(server: Server) -> None:
    server.close()
    assert "Prometheus does not answer" in PrometheusSource(server.url).sample(KEY, Slo(120), ["chat-a"]).fault
