"""What probes ask: whether the process is stuck (/healthz), whether it can do its work (/readyz); and its metrics."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from medley.model.errors import UserError

STUCK_AFTER_S = 300.0
"""A cycle that takes longer than this does not come back."""


@dataclass
class Health:
    """Told by the loop, asked by probes. Safe to use from several threads.

    Attributes:
        interval_s: between cycles.
        clock: monotonic seconds.
    """

    interval_s: float
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _leads: bool = False
    _began_s: float | None = None
    _done_s: float | None = None
    _fault: str = ""
    _missing: tuple[str, ...] = ("the checks at start are not done",)

    def checked(self, missing: Sequence[str]) -> None:
        """What the checks found missing."""
        with self._lock:
            self._missing = tuple(missing)

    def leads(self) -> None:
        """This process plans from now on."""
        with self._lock:
            self._leads = True
            self._done_s = self.clock()

    def began(self) -> None:
        """A cycle begins."""
        with self._lock:
            self._began_s = self.clock()

    def ended(self, fault: str) -> None:
        """It has ended; `fault` is empty if it could be done."""
        with self._lock:
            self._began_s = None
            self._fault = fault
            if not fault:
                self._done_s = self.clock()

    def stuck(self) -> str:
        """Why the process should be started anew; empty if it should not."""
        with self._lock:
            if self._began_s is not None and self.clock() - self._began_s > STUCK_AFTER_S:
                return f"a cycle has been under way for {self.clock() - self._began_s:.0f} s"
            return ""

    def not_ready(self) -> tuple[str, ...]:
        """What keeps it from doing its work; nothing if it does, or waits for its turn to lead."""
        with self._lock:
            reasons = list(self._missing)
            if self._fault:
                reasons.append(self._fault)
            elif self._leads and self._done_s is not None:
                since_s = self.clock() - self._done_s
                if since_s > 3 * self.interval_s + STUCK_AFTER_S:
                    reasons.append(f"no cycle has succeeded for {since_s:.0f} s")
            return tuple(reasons)


class _Server(ThreadingHTTPServer):
    """On all addresses of both families, where there are both, unless one is named."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        everywhere = not address[0] and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if everywhere or ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Both families on one socket."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def serve(
    health: Health, port: int, host: str = "", metrics: tuple[str, Callable[[], bytes]] | None = None
) -> ThreadingHTTPServer:
    """Answer probes in a thread, until `shutdown()`. Port 0 takes a free one: see `server_address`.

    Args:
        health: what to tell.
        port: to listen on.
        host: its address; empty: all.
        metrics: content type and text of /metrics.

    Raises:
        UserError: the port cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                reasons = tuple(filter(None, (health.stuck(),)))
            elif self.path == "/readyz":
                reasons = health.not_ready()
            elif self.path == "/metrics" and metrics is not None:
                self._answer(HTTPStatus.OK, metrics[0], metrics[1]())
                return
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            body = json.dumps({"ok": not reasons, "reasons": reasons}).encode() + b"\n"
            status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            self._answer(status, "application/json", body)

        def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds: no line for each."""

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        raise UserError(str(error), field=f"--health-port {port}", fix="Name a port that is free, or 0") from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
