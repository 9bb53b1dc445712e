"""A server that speaks vLLM's OpenAI API, its /metrics and its ways of refusing, over a simulated engine.

What a client sees is what vLLM shows: tokens stream as the engine generates them, usage counts are exact, a prompt that
does not fit gets a 400, and a client that goes away aborts its request. Texts are meaningless. Two request fields are
this simulator's own: `sim_input_tokens` (the prompt's length, so that nobody has to send 10,000 token ids) and
`sim_output_tokens` (where the model would stop by itself).

`SimulatedPods` hosts many such servers in one thread with one event loop, each on an address of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from aiohttp import web

from medley.lab.vllm_engine import (
    DEFAULT_MAX_NUM_BATCHED_TOKENS,
    Engine,
    EngineDriver,
    FinishReason,
    Generation,
    perturbed,
)
from medley.lab.vllm_metrics import VllmMetrics
from medley.model.errors import UserError
from medley.profiles.step import StepModel

SIMULATED_VERSION = "0.32.0"
DEFAULT_MAX_MODEL_LEN = 32_768
"""Of a service that sets no limit."""
_DEFAULT_COMPLETION_TOKENS = 16  # vLLM's and OpenAI's default of /v1/completions
_DRAIN_TIMEOUT_S = 30.0
_Result = TypeVar("_Result")


class _Api(Enum):
    """The two endpoints that generate; they differ in where the text stands."""

    COMPLETIONS = "text_completion"
    CHAT = "chat.completion"

    @property
    def id_prefix(self) -> str:
        return "cmpl" if self is _Api.COMPLETIONS else "chatcmpl"

    @property
    def chunk_object(self) -> str:
        return "text_completion" if self is _Api.COMPLETIONS else "chat.completion.chunk"

    def chunk_choice(self, text: str, reason: str | None) -> dict[str, Any]:
        if self is _Api.COMPLETIONS:
            return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        return {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": reason}

    def choice(self, text: str, reason: str) -> dict[str, Any]:
        if self is _Api.COMPLETIONS:
            return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        message = {"role": "assistant", "content": text}
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": reason, "stop_reason": None}


class _RefusedError(Exception):
    """A request that is answered with an error in vLLM's form."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def response(self) -> web.Response:
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return web.json_response({"error": error}, status=self.status)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A parsed request."""

    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    streams: bool
    includes_usage: bool

    @property
    def ends_with(self) -> FinishReason:
        return FinishReason.STOP if self.output_tokens < self.max_tokens else FinishReason.LENGTH


def _whole_number(body: dict[str, Any], name: str, *, at_least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise _RefusedError(400, "BadRequestError", f"{name} must be a whole number of at least {at_least}.", name)
    return value


def _estimated_tokens(text: str) -> int:
    return max(1, len(text.split()))


def _prompt_tokens(body: dict[str, Any], api: _Api) -> int:
    told = _whole_number(body, "sim_input_tokens", at_least=1)
    if told is not None:
        return told
    if api is _Api.COMPLETIONS:
        prompt = body.get("prompt")
        if isinstance(prompt, str):
            return _estimated_tokens(prompt)
        if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
            return len(prompt)
        raise _RefusedError(400, "BadRequestError", "prompt must be a text or a list of token ids.", "prompt")
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _RefusedError(400, "BadRequestError", "messages must be a list of objects.", "messages")
    return max(1, sum(_estimated_tokens(str(message.get("content") or "")) for message in messages))


class VllmServer:
    """One simulated vLLM server.

    All methods belong to one event loop. `start` listens, `stop` drains.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes a free one, see `port` after `start`.
        model_name: the served model; requests for another get a 404.
        engine: the engine behind it.
        max_model_len: most tokens of prompt and output together.
        stream_interval: tokens per streamed chunk, as vLLM's --stream-interval; the first token goes out at once.
    """

    def __init__(
        self,
        host: str,
        port: int,
        model_name: str,
        engine: Engine,
        max_model_len: int,
        *,
        stream_interval: int = 1,
    ) -> None:
        if stream_interval < 1:
            raise UserError(f"{stream_interval} is below 1", field="stream_interval")
        self.host = host
        self.port = port
        self._model_name = model_name
        self._engine = engine
        self._max_model_len = max_model_len
        self._stream_interval = stream_interval
        created_s = time.time()
        self._created_s = int(created_s)
        self._metrics = VllmMetrics(
            model_name, max_model_len, kv_capacity_tokens=engine.model.kv_capacity_tokens, created_s=created_s
        )
        self._driver = EngineDriver(engine, observe=self._metrics.record)
        self._driving: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._requests = 0
        self._in_flight = 0
        self._nothing_in_flight = asyncio.Event()
        self._nothing_in_flight.set()
        self._is_draining = False

    @property
    def base_url(self) -> str:
        """Where clients find it."""
        return f"http://{self.host}:{self.port}"

    @property
    def in_flight(self) -> int:
        """Requests that have come and are not answered to their end."""
        return self._in_flight

    async def start(self) -> None:
        """Listens; returns once connections are accepted."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/completions", self._handler(_Api.COMPLETIONS))
        app.router.add_post("/v1/chat/completions", self._handler(_Api.CHAT))
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics_page)
        # handler_cancellation: a client that goes away cancels its handler, which is how vLLM notices, too.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, backlog=1024)
        await site.start()
        if not self.port:
            self.port = int(self._runner.addresses[0][1])
        self._driving = asyncio.create_task(self._driver.run())

    async def stop(self, *, timeout_s: float = _DRAIN_TIMEOUT_S) -> None:
        """Accepts no more connections, lets requests finish for up to `timeout_s`, then cuts off the rest."""
        if self._runner is None:
            return
        self._is_draining = True
        for site in list(self._runner.sites):
            await site.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._nothing_in_flight.wait(), timeout_s)
        await self._runner.cleanup()
        self._runner = None
        if self._driving is not None:
            self._driving.cancel()
            with suppress(asyncio.CancelledError):
                await self._driving
            self._driving = None

    async def _models(self, _: web.Request) -> web.Response:
        model = {
            "id": self._model_name,
            "object": "model",
            "created": self._created_s,
            "owned_by": "vllm",
            "root": self._model_name,
            "max_model_len": self._max_model_len,
        }
        return web.json_response({"object": "list", "data": [model]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if self._is_draining else 200)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": SIMULATED_VERSION})

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(self._engine.load).encode(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    def _handler(self, api: _Api) -> Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if self._is_draining:
                return _RefusedError(503, "ServiceUnavailableError", "The server is shutting down.").response()
            self._in_flight += 1
            self._nothing_in_flight.clear()
            try:
                asked = self._parsed(await self._body(request), api)
                return await self._generate(request, api, asked)
            except _RefusedError as refused:
                return refused.response()
            finally:
                self._in_flight -= 1
                if not self._in_flight:
                    self._nothing_in_flight.set()

        return handle

    async def _body(self, request: web.Request) -> dict[str, Any]:
        try:
            body = json.loads(await request.read())
        except ValueError:
            raise _RefusedError(400, "BadRequestError", "The body is not JSON.") from None
        if not isinstance(body, dict):
            raise _RefusedError(400, "BadRequestError", "The body is not a JSON object.")
        return body

    def _parsed(self, body: dict[str, Any], api: _Api) -> _Asked:
        model = body.get("model")
        if model is not None and model != self._model_name:
            raise _RefusedError(404, "NotFoundError", f"The model `{model}` does not exist.", "model")
        if body.get("n") not in (None, 1):
            raise _RefusedError(400, "BadRequestError", "This simulator generates one choice only (n = 1).", "n")
        prompt_tokens = _prompt_tokens(body, api)
        longest = self._max_model_len
        if prompt_tokens >= longest:
            raise _RefusedError(
                400,
                "BadRequestError",
                f"This model's maximum context length is {longest} tokens. However, your request has {prompt_tokens} "
                "input tokens. Please reduce the length of the input messages.",
                "input_tokens",
            )
        max_tokens = _whole_number(body, "max_completion_tokens", at_least=1) if api is _Api.CHAT else None
        if max_tokens is None:
            max_tokens = _whole_number(body, "max_tokens", at_least=1)
        if max_tokens is None:
            rest = longest - prompt_tokens
            max_tokens = rest if api is _Api.CHAT else min(_DEFAULT_COMPLETION_TOKENS, rest)
        if prompt_tokens + max_tokens > longest:
            raise _RefusedError(
                400,
                "BadRequestError",
                f"'max_tokens' or 'max_completion_tokens' is too large: {max_tokens}. This model's maximum context "
                f"length is {longest} tokens and your request has {prompt_tokens} input tokens ({max_tokens} > "
                f"{longest} - {prompt_tokens}).",
                "max_tokens",
            )
        stops_at = _whole_number(body, "sim_output_tokens", at_least=1)
        output_tokens = max_tokens if stops_at is None else min(stops_at, max_tokens)
        if not self._engine.fits(prompt_tokens, output_tokens):
            # vLLM refuses to start when max_model_len exceeds the KV cache; here only the request is refused.
            raise _RefusedError(
                400,
                "BadRequestError",
                f"{prompt_tokens} + {output_tokens} tokens exceed the KV cache of "
                f"{self._engine.model.kv_capacity_tokens} tokens.",
                "input_tokens",
            )
        options = body.get("stream_options")
        return _Asked(
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            max_tokens=max_tokens,
            streams=bool(body.get("stream")),
            includes_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )

    @asynccontextmanager
    async def _generation(self, asked: _Asked, news: asyncio.Event) -> AsyncIterator[Generation]:
        generation = self._driver.submit(
            prompt_tokens=asked.prompt_tokens,
            output_tokens=asked.output_tokens,
            max_tokens=asked.max_tokens,
            ends_with=asked.ends_with,
            wake=news.set,
        )
        try:
            yield generation
        finally:
            self._driver.abort(generation)  # does nothing once it has finished

    async def _generate(self, request: web.Request, api: _Api, asked: _Asked) -> web.StreamResponse:
        self._requests += 1
        request_id = f"{api.id_prefix}-{self._requests:08x}"
        news = asyncio.Event()
        usage = {
            "prompt_tokens": asked.prompt_tokens,
            "total_tokens": asked.prompt_tokens + asked.output_tokens,
            "completion_tokens": asked.output_tokens,
        }
        head = {"id": request_id, "created": int(time.time()), "model": self._model_name}
        async with self._generation(asked, news) as generation:
            if not asked.streams:
                generation.wake_at_tokens = asked.output_tokens
                await news.wait()
                choice = api.choice(_text(asked.output_tokens), asked.ends_with)
                return web.json_response({**head, "object": api.value, "choices": [choice], "usage": usage})
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
            head["object"] = api.chunk_object
            try:
                await response.prepare(request)
                await self._stream(response, api, head, generation, news)
                if asked.includes_usage:
                    await response.write(_event({**head, "choices": [], "usage": usage}))
                await response.write(b"data: [DONE]\n\n")
                await response.write_eof()
            except ConnectionError:  # the client went away between two chunks; the generation is aborted on the way out
                pass
            return response

    async def _stream(
        self,
        response: web.StreamResponse,
        api: _Api,
        head: dict[str, Any],
        generation: Generation,
        news: asyncio.Event,
    ) -> None:
        sent = 0
        while generation.finished is None or sent < generation.generated:
            await news.wait()
            news.clear()
            fresh = generation.generated - sent
            if not fresh:
                continue
            sent = generation.generated
            generation.wake_at_tokens = sent + self._stream_interval
            reason = generation.finished.value if generation.finished is not None else None
            await response.write(_event({**head, "choices": [api.chunk_choice(_text(fresh), reason)]}))


def _text(tokens: int) -> str:
    return " t" * tokens


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


class SimulatedPods:
    """Many simulated servers in one event loop in a thread of its own. Methods may be called from any other thread.

    Args:
        stream_interval: tokens per streamed chunk of every server. A chunk costs more than all else a token costs, so
            the default keeps a dozen busy servers within one core; latencies that clients measure over a whole
            request are the same.
        noise: relative standard deviation of a step.
        max_num_batched_tokens: most tokens computed in one step.
    """

    def __init__(
        self,
        *,
        stream_interval: int = 16,
        noise: float = 0.03,
        max_num_batched_tokens: int = DEFAULT_MAX_NUM_BATCHED_TOKENS,
    ) -> None:
        self._stream_interval = stream_interval
        self._noise = noise
        self._max_num_batched_tokens = max_num_batched_tokens
        self._servers: dict[str, VllmServer] = {}
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulated-pods", daemon=True)
        self._thread.start()

    def start(
        self,
        key: str,
        host: str,
        port: int,
        *,
        model_name: str,
        step_model: StepModel,
        max_model_len: int,
        seed: int,
    ) -> str:
        """Starts a server; returns its base URL once it listens.

        Args:
            key: name to stop it by, e.g. namespace/pod.
            host: address to listen on.
            port: port to listen on; 0 takes a free one.
            model_name: the served model.
            step_model: the true constants of its GPU; see `perturbed`.
            max_model_len: most tokens of prompt and output together.
            seed: seed of the noise.

        Raises:
            UserError: the key is in use.
            OSError: the address cannot be listened on.
        """

        async def start() -> VllmServer:
            engine = Engine(
                step_model,
                rng=random.Random(seed),
                noise=self._noise,
                max_num_batched_tokens=self._max_num_batched_tokens,
            )
            server = VllmServer(host, port, model_name, engine, max_model_len, stream_interval=self._stream_interval)
            try:
                await server.start()
            except BaseException:
                await server.stop(timeout_s=0.0)
                raise
            return server

        with self._lock:
            if key in self._servers:
                raise UserError("a simulated pod of this name runs already", field=key)
            server = self._servers[key] = self._run(start())
        return server.base_url

    def stop(self, key: str, *, timeout_s: float = _DRAIN_TIMEOUT_S) -> None:
        """Drains and stops a server; returns when its port is free. An unknown key is no error."""
        with self._lock:
            server = self._servers.pop(key, None)
        if server is not None:
            self._run(server.stop(timeout_s=timeout_s))

    def keys(self) -> tuple[str, ...]:
        """The servers that run."""
        with self._lock:
            return tuple(self._servers)

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Stops all servers at the same time, each draining for up to `timeout_s`, and ends the thread."""
        if self._loop.is_closed():
            return
        with self._lock:
            servers = list(self._servers.values())
            self._servers.clear()

        async def stop_all() -> None:
            await asyncio.gather(*(server.stop(timeout_s=timeout_s) for server in servers), return_exceptions=True)

        self._run(stop_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _serve(server: VllmServer) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await server.start()
    await stopped.wait()
    await server.stop()


def main(arguments: list[str] | None = None) -> None:
    """Runs one simulated server until SIGTERM or SIGINT, then drains it."""
    parser = argparse.ArgumentParser(prog="python -m medley.lab.vllm_server", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model-name", default="simulated")
    parser.add_argument("--max-model-len", type=int, default=8192)
    parser.add_argument(
        "--profile-constants", required=True, help="JSON object with the fields of StepModel, e.g. base_ms"
    )
    parser.add_argument("--seed", type=int, default=0, help="of this GPU's deviation from the profile and of the noise")
    parser.add_argument("--spread", type=float, default=0.10, help="how far the constants may be off the profile")
    parser.add_argument("--noise", type=float, default=0.03, help="relative standard deviation of a step")
    parser.add_argument("--max-num-batched-tokens", type=int, default=DEFAULT_MAX_NUM_BATCHED_TOKENS)
    parser.add_argument("--stream-interval", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        profile = StepModel(**json.loads(options.profile_constants))
    except (TypeError, ValueError) as error:
        parser.error(f"--profile-constants: {error}")
    engine = Engine(
        perturbed(profile, seed=options.seed, spread=options.spread),
        rng=random.Random(options.seed),
        noise=options.noise,
        max_num_batched_tokens=options.max_num_batched_tokens,
    )

    async def serve() -> None:
        server = VllmServer(
            options.host,
            options.port,
            options.model_name,
            engine,
            options.max_model_len,
            stream_interval=options.stream_interval,
        )
        await _serve(server)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
