"""The streaming client, against the simulated server and against servers that misbehave. Real sockets on loopback."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from medley.lab.vllm_engine import Engine
from medley.lab.vllm_server import VllmServer
from medley.measurement.client import OpenAiEndpoint, RequestError, RequestFault, ServedModel, TokensAs
from medley.model.errors import UserError
from medley.model.workload import Size
from medley.profiles.step import StepModel

SLOW_PREFILL = StepModel(4.0, 0.01, 0.0, 0.1, kv_capacity_tokens=20_000, max_batch=64)
SIZE = Size(200, 20)


@asynccontextmanager
async def simulated(max_model_len: int = 2048) -> AsyncIterator[OpenAiEndpoint]:
    engine = Engine(SLOW_PREFILL, rng=random.Random(1), noise=0.0)
    server = VllmServer("127.0.0.1", 0, "tiny", engine, max_model_len, stream_interval=1)
    await server.start()
    try:
        async with OpenAiEndpoint(server.base_url + "/v1/", "tiny") as endpoint:
            yield endpoint
    finally:
        await server.stop(timeout_s=1.0)


@asynccontextmanager
async def answering(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], **options: Any
) -> AsyncIterator[OpenAiEndpoint]:
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    app.router.add_get("/v1/models", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with OpenAiEndpoint(f"http://{host}:{port}", "tiny", **options) as endpoint:
            yield endpoint
    finally:
        await runner.cleanup()


def streaming(*events: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            await response.write(f"data: {event}\r\n\r\n".encode())
        return response

    return handle


def fault_of(endpoint: Callable[[], Any]) -> RequestError:
    async def main() -> RequestError:
        async with endpoint() as opened:
            with pytest.raises(RequestError) as caught:
                await opened.complete(SIZE)
            return caught.value

    return asyncio.run(main())


CHUNK = '{"choices": [{"text": "a"}], "usage": null}'
USAGE = '{"choices": [], "usage": {"prompt_tokens": 200, "completion_tokens": 20}}'


def test_latencies_and_counts_are_the_servers() -> None:
    async def main() -> None:
        async with simulated() as endpoint:
            assert await endpoint.models() == (ServedModel("tiny", 2048),)
            await endpoint.check(SIZE)
            served = await endpoint.complete(SIZE)
            assert (served.input_tokens, served.output_tokens, served.cached_tokens) == (200, 20, 0)
            # 4 ms and 200 x 0.1 ms of prefill; a busy machine may make it much longer, never shorter.
            assert 24.0 <= served.ttft_ms < 1000.0
            assert 3.5 <= served.tpot_ms < 100.0

    asyncio.run(main())


def test_no_two_prompts_begin_alike_and_special_tokens_are_left_out() -> None:
    bodies: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return await streaming(CHUNK, USAGE, "[DONE]")(request)

    async def main() -> None:
        async with answering(handle, vocabulary_size=1000) as endpoint:
            for _ in range(20):
                await endpoint.complete(SIZE)

    asyncio.run(main())
    prompts = [tuple(body["prompt"]) for body in bodies]
    assert len({prompt[:4] for prompt in prompts}) == 20
    assert all(len(prompt) == 200 and min(prompt) >= 10 and max(prompt) < 1000 - 64 for prompt in prompts)
    assert all(body["ignore_eos"] and body["min_tokens"] == body["max_tokens"] == 20 for body in bodies)
    assert "sim_input_tokens" not in bodies[0]


def test_text_prompts_are_fitted_to_the_servers_count() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        words = (await request.json())["prompt"].split()
        usage = {"prompt_tokens": round(1.5 * len(words)) + 1, "completion_tokens": 20}
        return await streaming(CHUNK, json.dumps({"choices": [], "usage": usage}), "[DONE]")(request)

    async def main() -> None:
        async with answering(handle, tokens_as=TokensAs.TEXT) as endpoint:
            served = await endpoint.check(Size(500, 20))
            assert abs(served.input_tokens - 500) <= 10
            assert abs((await endpoint.complete(SIZE)).input_tokens - 200) <= 4

    asyncio.run(main())


def test_usage_may_come_with_the_last_chunk_and_tell_of_cached_tokens() -> None:
    usage = {"prompt_tokens": 200, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 48}}
    last = json.dumps({"choices": [{"text": "b"}], "usage": usage})

    async def main() -> None:
        async with answering(streaming(CHUNK, last, "[DONE]")) as endpoint:
            served = await endpoint.complete(SIZE)
            assert served.cached_tokens == 48
            assert served.last_s >= served.first_s

    asyncio.run(main())


def test_a_refusal_has_the_servers_words_and_ends_the_run() -> None:
    error = fault_of(lambda: simulated(max_model_len=100))
    assert error.fault is RequestFault.REFUSED
    assert error.ends_the_run
    assert "maximum context length is 100 tokens" in str(error)


@pytest.mark.parametrize(
    ("status", "fault", "ends"),
    [
        (404, RequestFault.REFUSED, True),
        (429, RequestFault.OVERLOADED, False),
        (503, RequestFault.SERVER_ERROR, False),
    ],
)
def test_statuses_are_told_apart(status: int, fault: RequestFault, ends: bool) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="these are the words")

    error = fault_of(lambda: answering(handle))
    assert (error.fault, error.ends_the_run) == (fault, ends)
    assert "these are the words" in str(error)


@pytest.mark.parametrize(
    ("events", "fault", "words"),
    [
        ((CHUNK, USAGE), RequestFault.BROKEN_OFF, "ended before its end"),
        ((USAGE, "[DONE]"), RequestFault.BROKEN_OFF, "ended before its end"),
        ((CHUNK, '{"error": {"message": "out of memory"}}'), RequestFault.BROKEN_OFF, "out of memory"),
        ((CHUNK, "[DONE]"), RequestFault.WRONG_COUNT, "include_usage"),
        ((CHUNK, USAGE.replace("20}", "7}"), "[DONE]"), RequestFault.WRONG_COUNT, "ignore_eos"),
        ((CHUNK, USAGE.replace("200", "260"), "[DONE]"), RequestFault.WRONG_COUNT, "--tokens-as text"),
    ],
)
def test_streams_that_do_not_tell_the_truth_are_errors(
    events: tuple[str, ...], fault: RequestFault, words: str
) -> None:
    error = fault_of(lambda: answering(streaming(*events)))
    assert error.fault is fault
    assert words in str(error)


def test_a_server_that_hangs_is_a_timeout() -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.Response()

    assert fault_of(lambda: answering(handle, timeout_s=0.1)).fault is RequestFault.TIMEOUT


def test_nobody_at_the_address() -> None:
    error = fault_of(lambda: OpenAiEndpoint("http://127.0.0.1:9", "tiny"))
    assert error.fault is RequestFault.NOT_REACHED
    assert "http://127.0.0.1:9 does not answer" in str(error)


def test_a_page_that_is_no_openai_endpoint() -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>hello</html>")

    async def main() -> None:
        async with answering(handle) as endpoint:
            with pytest.raises(RequestError, match="is the URL right"):
                await endpoint.models()

    asyncio.run(main())


def test_bad_arguments() -> None:
    with pytest.raises(UserError, match="http://"):
        OpenAiEndpoint("localhost:8000", "tiny")
    with pytest.raises(UserError, match="vocab_size"):
        OpenAiEndpoint("http://a", "tiny", vocabulary_size=5)
