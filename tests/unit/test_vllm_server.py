"""The simulated server over real sockets on loopback."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from medley.lab.vllm_engine import Engine
from medley.lab.vllm_server import SimulatedPods, VllmServer
from medley.model.errors import UserError
from medley.profiles.step import StepModel

FAST = StepModel(2.0, 0.01, 0.0, 0.001, kv_capacity_tokens=20_000, max_batch=64)
Session = aiohttp.ClientSession


@asynccontextmanager
async def serving(
    model: StepModel = FAST, *, stream_interval: int = 1, max_model_len: int = 2048
) -> AsyncIterator[tuple[VllmServer, Session]]:
    engine = Engine(model, rng=random.Random(1), noise=0.0)
    server = VllmServer("127.0.0.1", 0, "tiny", engine, max_model_len, stream_interval=stream_interval)
    await server.start()
    try:
        async with aiohttp.ClientSession(server.base_url) as session:
            yield server, session
    finally:
        await server.stop(timeout_s=1.0)


async def post(session: Session, path: str = "/v1/completions", **body: Any) -> tuple[int, dict[str, Any]]:
    async with session.post(path, json={"model": "tiny", **body}) as response:
        return response.status, await response.json()


async def events(session: Session, path: str = "/v1/completions", **body: Any) -> list[Any]:
    async with session.post(path, json={"stream": True, **body}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        text = await response.text()
    found = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert found[-1] == "[DONE]"
    return [json.loads(event) for event in found[:-1]]


async def metric(session: Session, name: str) -> float:
    async with session.get("/metrics") as response:
        text = await response.text()
    (line,) = [line for line in text.splitlines() if line.startswith(f"vllm:{name}")]
    return float(line.split(" ")[-1])


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await holds():  # noqa: ASYNC110 - the condition is on the other side of a socket
            await asyncio.sleep(0.01)


def test_a_completion_counts_exactly() -> None:
    async def main() -> None:
        async with serving() as (_, session):
            status, answer = await post(session, prompt=[1] * 37, max_tokens=9)
            assert status == 200
            assert answer["usage"] == {"prompt_tokens": 37, "completion_tokens": 9, "total_tokens": 46}
            assert answer["choices"][0]["finish_reason"] == "length"
            assert len(answer["choices"][0]["text"].split()) == 9
            _, answer = await post(session, prompt="three short words", max_tokens=50, sim_output_tokens=4)
            assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
            assert answer["choices"][0]["finish_reason"] == "stop"
            _, answer = await post(session, prompt="x", sim_input_tokens=1000)
            assert answer["usage"] == {"prompt_tokens": 1000, "completion_tokens": 16, "total_tokens": 1016}
            assert await metric(session, "prompt_tokens_total") == 1040
            assert await metric(session, "generation_tokens_total") == 29
            assert await metric(session, 'request_success_total{engine="0",finished_reason="stop"') == 1

    asyncio.run(main())


def test_chat_generates_up_to_the_model_length_by_default() -> None:
    async def main() -> None:
        async with serving(max_model_len=64) as (_, session):
            messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
            _, answer = await post(session, "/v1/chat/completions", messages=messages)
            assert answer["object"] == "chat.completion"
            assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 61, "total_tokens": 64}
            chunks = await events(
                session, "/v1/chat/completions", messages=messages, max_completion_tokens=5, max_tokens=40
            )
            assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks).split() == ["t"] * 5

    asyncio.run(main())


@pytest.mark.parametrize(("interval", "sizes"), [(1, [1] * 10), (4, [1, 4, 4, 1])])
def test_streaming_sends_the_first_token_at_once_then_by_the_interval(interval: int, sizes: list[int]) -> None:
    async def main() -> None:
        async with serving(stream_interval=interval) as (_, session):
            *chunks, usage = await events(session, prompt=[1, 2], max_tokens=10, stream_options={"include_usage": True})
            assert [len(chunk["choices"][0]["text"].split()) for chunk in chunks] == sizes
            assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(sizes) - 1) + ["length"]
            assert usage["choices"] == []
            assert usage["usage"] == {"prompt_tokens": 2, "completion_tokens": 10, "total_tokens": 12}
            without = await events(session, prompt=[1, 2], max_tokens=10)
            assert [len(chunk["choices"]) for chunk in without] == [1] * len(sizes)

    asyncio.run(main())


def test_a_client_that_leaves_aborts_its_request() -> None:
    async def main() -> None:
        async with serving() as (_, session):
            async with session.post(
                "/v1/completions", json={"prompt": [1] * 8, "max_tokens": 2000, "stream": True}
            ) as r:
                await r.content.readany()
                assert await metric(session, "num_requests_running{") == 1

            async def is_idle() -> bool:
                return await metric(session, "num_requests_running{") == 0

            await until(is_idle)
            assert await metric(session, "prompt_tokens_total") == 8
            assert 1 <= await metric(session, "generation_tokens_total") < 2000
            assert await metric(session, "time_to_first_token_seconds_count") == 1
            assert await metric(session, "request_prompt_tokens_count") == 0
            assert await metric(session, 'request_success_total{engine="0",finished_reason="abort"') == 0
            assert await metric(session, "kv_cache_usage_perc") == 0

    asyncio.run(main())


def test_a_client_that_leaves_the_queue_counts_nowhere() -> None:
    async def main() -> None:
        one_at_a_time = StepModel(2.0, 0.01, 0.0, 0.001, kv_capacity_tokens=20_000, max_batch=1)
        async with serving(one_at_a_time) as (server, session):
            first = asyncio.create_task(post(session, prompt=[1] * 8, max_tokens=300))

            async def runs() -> bool:
                return await metric(session, "num_requests_running{") == 1

            await until(runs)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await post(session, prompt=[1] * 500, max_tokens=5)

            async def only_the_first() -> bool:
                return server.in_flight == 1

            await until(only_the_first)
            assert await metric(session, "num_requests_waiting{") == 0
            assert await metric(session, "prompt_tokens_total") == 8
            assert (await first)[0] == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"prompt": [1] * 3000}, 400, "maximum context length is 2048 tokens"),
        ({"prompt": "x", "sim_input_tokens": 2048}, 400, "maximum context length is 2048 tokens"),
        ({"prompt": [1] * 2000, "max_tokens": 49}, 400, "is too large: 49"),
        ({"prompt": "x", "max_tokens": 0}, 400, "max_tokens"),
        ({"prompt": "x", "sim_output_tokens": "9"}, 400, "sim_output_tokens"),
        ({"prompt": ["a"]}, 400, "prompt"),
        ({}, 400, "prompt"),
        ({"prompt": "x", "n": 2}, 400, "n = 1"),
        ({"prompt": "x", "model": "other"}, 404, "does not exist"),
    ],
)
def test_bad_requests_are_refused_in_the_form_of_vllm(body: dict[str, Any], status: int, words: str) -> None:
    async def main() -> None:
        async with serving() as (_, session):
            answered, answer = await post(session, **body)
            assert answered == status
            assert answer["error"]["code"] == status
            assert words in answer["error"]["message"]
            assert await metric(session, "prompt_tokens_total") == 0

    asyncio.run(main())


def test_the_other_pages() -> None:
    async def main() -> None:
        async with serving() as (_, session):
            async with session.get("/health") as response:
                assert response.status == 200
            async with session.get("/version") as response:
                assert (await response.json())["version"] == "0.32.0"
            async with session.get("/v1/models") as response:
                (model,) = (await response.json())["data"]
                assert (model["id"], model["max_model_len"]) == ("tiny", 2048)

    asyncio.run(main())


def test_stop_lets_requests_finish() -> None:
    async def main() -> None:
        async with serving() as (server, session):
            request = asyncio.create_task(post(session, prompt="x", max_tokens=100))
            await asyncio.sleep(0.05)
            assert server.in_flight == 1
            await server.stop(timeout_s=5)
            status, answer = await request
            assert (status, answer["usage"]["completion_tokens"]) == (200, 100)
            with pytest.raises(aiohttp.ClientConnectionError):
                await post(session, prompt="x")

    asyncio.run(main())


def test_stop_cuts_off_what_takes_too_long() -> None:
    async def main() -> None:
        async with serving() as (server, session):
            request = asyncio.create_task(post(session, prompt="x", max_tokens=2000))
            await asyncio.sleep(0.05)
            begun = time.monotonic()
            await server.stop(timeout_s=0.1)
            assert time.monotonic() - begun < 2
            with pytest.raises(aiohttp.ClientError):
                await request

    asyncio.run(main())


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        text: str = response.read().decode()
    return text


def test_simulated_pods_start_and_stop_from_other_threads() -> None:
    pods = SimulatedPods()
    try:
        urls: dict[str, str] = {}

        def start(key: str) -> None:
            urls[key] = pods.start(key, "127.0.0.1", 0, model_name=key, step_model=FAST, max_model_len=2048, seed=1)

        threads = [threading.Thread(target=start, args=(f"pod-{number}",)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(pods.keys()) == sorted(urls) == [f"pod-{number}" for number in range(6)]
        for key, url in urls.items():
            assert f'model_name="{key}"' in get(f"{url}/metrics")
        with pytest.raises(UserError, match="pod-1"):
            start("pod-1")
        pods.stop("pod-1")
        pods.stop("pod-1")
        with pytest.raises(urllib.error.URLError):
            get(f"{urls['pod-1']}/health")
        assert get(f"{urls['pod-2']}/health") == ""
        start("pod-1")
    finally:
        pods.close()
        pods.close()


def test_a_port_in_use_is_an_error_and_leaves_nothing_behind() -> None:
    pods = SimulatedPods()
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                pods.start("pod", "127.0.0.1", port, model_name="m", step_model=FAST, max_model_len=2048, seed=1)
        assert pods.keys() == ()
        url = pods.start("pod", "127.0.0.1", port, model_name="m", step_model=FAST, max_model_len=2048, seed=1)
        assert url == f"http://127.0.0.1:{port}"
    finally:
        pods.close()
