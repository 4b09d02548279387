"""The whole line on real vLLM: five experts, a device that holds two of them, unchanged OpenAI clients."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import httpx
import openai
import psutil
import pytest

from tests.end_to_end.conftest import (
    EXPERTS,
    MAX_TOKENS,
    PROMPTS,
    ROOT,
    GatewayProcess,
)
from tests.end_to_end.held_bytes import shared_memory_of
from tests.memory_limit import memory_limit

pytestmark = pytest.mark.engine
LITTLE = 32 * 2**20
"""Bytes: more than a step of one stream takes, less than all probabilities of a long prompt."""


def eventually(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


async def streamed(client: openai.AsyncOpenAI, expert: str, prompt: str) -> str:
    stream = await client.chat.completions.create(
        model=expert,
        messages=[{"role": "user", "content": prompt}],
        temperature=0,
        max_tokens=MAX_TOKENS,
        stream=True,
    )
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    return "".join(pieces)


def test_all_experts_stream_at_once_and_each_answers_as_when_served_alone(
    gateway: GatewayProcess, alone: Mapping[tuple[str, str], str]
) -> None:
    async def all_at_once() -> list[str]:
        async with gateway.async_client() as client:
            return await asyncio.gather(*(streamed(client, *key) for _ in range(2) for key in alone))

    answers = asyncio.run(all_at_once())
    wrong = {
        key: (answer, alone[key])
        for key, answer in zip([*alone, *alone], answers, strict=True)
        if answer != alone[key]
    }
    assert wrong == {}
    assert gateway.total('coe_move_seconds_count{from_tier="device"') >= 3  # the budget did force evictions
    assert gateway.total("coe_engine_switches_total{") >= 1


def test_the_experts_really_differ(alone: Mapping[tuple[str, str], str]) -> None:
    for prompt in PROMPTS:
        assert len({alone[expert, prompt] for expert in EXPERTS}) >= 3


@pytest.mark.parametrize(
    ("prompt", "expert"),
    [
        ("What is the integral of x^2?", "math"),
        ("Write a Python function that reverses a list.", "coding"),
        ("What are the symptoms of pneumonia?", "medicine"),
        ("Can my landlord evict me without notice?", "law"),
        ("What is the capital of France?", "general"),
    ],
)
def test_the_composition_routes_and_says_so_in_headers(
    gateway: GatewayProcess, prompt: str, expert: str
) -> None:
    raw = gateway.client().chat.completions.with_raw_response.create(
        model="coe", messages=[{"role": "user", "content": prompt}], max_tokens=16, temperature=0
    )
    answer = raw.parse()
    assert raw.headers["x-coe-expert"] == expert
    assert answer.model == expert
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < float(raw.headers["x-coe-confidence"]) <= 1
    for name in ("x-coe-category", "x-coe-tier", "x-coe-queue-ms", "x-coe-swap-ms", "x-request-id"):
        assert raw.headers[name]


def test_the_general_expert_knows_the_capital_of_france(gateway: GatewayProcess) -> None:
    answer = gateway.client().chat.completions.create(
        model="general",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"


def test_models_say_where_every_expert_is(gateway: GatewayProcess) -> None:
    listed = httpx.get(f"{gateway.url}/v1/models").json()["data"]
    tiers = {model["id"]: model["coe"].get("tier") for model in listed}
    assert set(tiers) == {"coe", *EXPERTS}
    on_device = [name for name, tier in tiers.items() if tier == "device"]
    assert 1 <= len(on_device) <= 2


def test_an_unknown_model_is_refused_with_the_closest_name(gateway: GatewayProcess) -> None:
    with pytest.raises(openai.NotFoundError, match="Did you mean 'math'") as caught:
        gateway.client().chat.completions.create(model="maths", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "model_not_found"


def test_a_prompt_over_the_context_is_refused_in_openais_shape(gateway: GatewayProcess) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        gateway.client().chat.completions.create(
            model="general", messages=[{"role": "user", "content": "word " * 5000}]
        )
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"{", b'{"model": "coe"}', b'{"model": "coe", "messages": []}'])
def test_a_malformed_body_is_refused_in_openais_shape(gateway: GatewayProcess, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_clients_that_leave_give_everything_back(gateway: GatewayProcess) -> None:
    async def leave(expert: str, after: int) -> None:
        """Leaves after so many chunks; zero leaves while the answer has not begun."""
        async with gateway.async_client() as client:
            request = client.chat.completions.create(
                model=expert,
                messages=[{"role": "user", "content": "Count to a thousand."}],
                max_tokens=1500,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            try:
                stream = await asyncio.wait_for(request, None if after else 0.05)
            except TimeoutError:
                return
            async for _ in stream:
                after -= 1
                if after <= 0:
                    await stream.close()
                    return

    async def all_leave() -> None:
        await asyncio.gather(*(leave(expert, after) for expert in EXPERTS for after in (0, 1, 5)))

    asyncio.run(all_leave())
    eventually(lambda: gateway.total("coe_leases{") == 0, "every lease came back")
    eventually(lambda: gateway.total("coe_engine_requests{") == 0, "the engine holds no request")


def test_a_core_that_is_stopped_costs_those_who_wait_their_own_time_and_no_answer_under_way(
    gateway: GatewayProcess, alone: Mapping[tuple[str, str], str]
) -> None:
    key = next(iter(alone))

    async def stop() -> tuple[str, str, str]:
        async with gateway.async_client() as client:
            begun = asyncio.Event()
            under_way = asyncio.create_task(long_stream(client, begun, 200))
            await begun.wait()
            core = _engine_core(gateway)
            core.suspend()
            try:
                hurried = client.with_options(default_headers={"x-coe-timeout-s": "1"}, max_retries=0)
                with pytest.raises(openai.APIStatusError) as timed_out:
                    await hurried.chat.completions.create(
                        model=key[0], messages=[{"role": "user", "content": key[1]}], max_tokens=1
                    )
            finally:
                core.resume()
            return str(timed_out.value.code), await streamed(client, *key), await under_way

    code, answer, ended = asyncio.run(stop())
    assert code == "request_timeout"
    assert answer == alone[key]
    assert ended == "ended as if nothing had happened"


async def long_stream(client: openai.AsyncOpenAI, begun: asyncio.Event, tokens: int) -> str:
    """Reads a stream to its end, and returns the code of the error that it ends with, if any."""
    stream = await client.chat.completions.create(
        model="general",
        messages=[{"role": "user", "content": "Tell me a very long story."}],
        max_tokens=tokens,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    try:
        async for _ in stream:
            begun.set()
    except openai.APIError as error:
        return str(error.code)
    return "ended as if nothing had happened"


def test_killing_the_engine_costs_time_and_streams_under_way_but_no_request_not_yet_begun(
    gateway: GatewayProcess, alone: Mapping[tuple[str, str], str]
) -> None:
    async def kill() -> tuple[str, list[str], int]:
        async with gateway.async_client() as client:
            begun = asyncio.Event()
            under_way = asyncio.create_task(long_stream(client, begun, 1900))
            await begun.wait()
            _engine_core(gateway).kill()
            not_begun = [asyncio.create_task(streamed(client, *key)) for key in list(alone)[:6]]
            async with httpx.AsyncClient(base_url=gateway.url, timeout=120) as http:
                meanwhile = 200
                while meanwhile == 200:
                    meanwhile = (await http.get("/ready")).status_code
            return await under_way, await asyncio.gather(*not_begun), meanwhile

    ended, answers, meanwhile = asyncio.run(kill())
    assert ended == "engine_lost"
    assert answers == list(alone.values())[:6]
    assert meanwhile == 503
    eventually(lambda: httpx.get(f"{gateway.url}/ready", timeout=120).status_code == 200, "ready again")


def test_a_core_out_of_memory_costs_streams_under_way_and_no_request_not_yet_begun(
    gateway: GatewayProcess,
) -> None:
    async def starve() -> tuple[str, int]:
        async with gateway.async_client() as client:
            begun = asyncio.Event()
            under_way = asyncio.create_task(long_stream(client, begun, 1900))
            await begun.wait()
            with memory_limit(LITTLE, [_engine_core(gateway).pid]):
                # Probabilities of each token of a prompt take 300 MB that no computation has taken before.
                large = {"prompt": "one " * 1500, "max_tokens": 1, "prompt_logprobs": 1}
                asked = asyncio.create_task(
                    client.post("/completions", body={"model": "general", **large}, cast_to=httpx.Response)
                )
                ended = await under_way
                return ended, (await asked).status_code

    assert asyncio.run(starve()) == ("engine_lost", 200)
    eventually(lambda: httpx.get(f"{gateway.url}/ready", timeout=120).status_code == 200, "ready again")
    eventually(lambda: gateway.total("coe_leases{") == 0, "every lease came back")


def _engine_core(gateway: GatewayProcess) -> psutil.Process:
    """The process that computes: the descendant with the most memory."""
    return max(gateway.descendants(), key=lambda process: process.memory_info().rss)


def test_a_port_in_use_is_one_line_and_a_failure(gateway: GatewayProcess) -> None:
    port = gateway.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "server.cli", "serve", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "choose another with --port" in done.stderr


def test_ctrl_c_leaves_no_process_socket_or_shared_memory(gateway: GatewayProcess) -> None:
    started = gateway.descendants()
    addresses = [str(c.laddr) for process in started for c in process.net_connections("unix")]
    sockets = [address for address in addresses if address and os.path.exists(address)]
    assert sockets
    segments = shared_memory_of(gateway)
    assert segments
    gateway.process.send_signal(signal.SIGINT)
    assert gateway.process.wait(120) == 0
    assert [process for process in started if process.is_running() and process.status() != "zombie"] == []
    assert [path for path in sockets if os.path.exists(path)] == []
    assert [path for path in segments if path.exists()] == []
