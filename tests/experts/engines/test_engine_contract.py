"""What every engine promises (``experts.engines.engine``), over the simulated one and real vLLM in all modes.

Tests of one engine run in the order of this file and share it: a start takes from 20 seconds to minutes.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import psutil
import pytest
import pytest_asyncio
from safetensors.numpy import load_file, save_file

from experts.checkpoints.sources.embedded import EmbeddedSource
from experts.engines.engine import Engine, EngineResponse
from experts.engines.nursery import Nurseries
from experts.engines.session import session_members
from experts.errors import EngineLost, EngineStartFailed, EngineUnavailable, ExpertNotResident, LoadFailed
from experts.simulated.engine import SimulatedEngine
from experts.simulated.process import SimulatedProcess
from experts.spec import Canary, Expert, FamilyConfig, SimulationConfig
from experts.vllm.engine import VllmEngine
from experts.vllm.lora import LoraEngine
from experts.vllm.modes import full_weights_engine

pytestmark = pytest.mark.asyncio(loop_scope="module")

Kind = Literal["simulated", "simulated process", "plain", "interleaved", "lora"]
REAL = pytest.mark.kinds("plain", "interleaved", "lora")
SEVERAL = pytest.mark.kinds("simulated", "simulated process", "interleaved", "lora")
"""Engines that hold more than one expert."""
PATH = "/v1/chat/completions"
PROMPTS = ("What is the capital of France?", "Tell me about the sea.", "How do I sort a list in Python?")


@dataclass
class Bench:
    """An engine and what its tests share."""

    kind: Kind
    engine: Engine
    general: Expert
    other: Expert
    answers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def real(self) -> bool:
        return not self.kind.startswith("simulated")

    async def has_both(self) -> None:
        """Both experts resident, as far as the engine can: plain vLLM then holds ``other``."""
        for expert in (self.general, self.other):
            await self.engine.load(expert, expert.folder)


@pytest.fixture(scope="module")
def general(base_checkpoint: Path) -> Expert:
    return expert_at("general", base_checkpoint)


@pytest.fixture(scope="module")
def other(base_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Expert:
    """The base with noise on its feed-forward weights and on the embedding its output layer is tied to."""
    folder = tmp_path_factory.mktemp("other") / "checkpoint"
    shutil.copytree(base_checkpoint, folder)
    tensors = load_file(base_checkpoint / "model.safetensors")
    noise = np.random.default_rng(7)
    for name in sorted(tensors):
        if "mlp" in name or "embed" in name:
            spread = 0.1 * tensors[name].std()
            tensors[name] += spread * noise.standard_normal(tensors[name].shape, dtype=np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return expert_at("other", folder)


@pytest.fixture(scope="module")
def with_canaries(general: Expert, other: Expert) -> list[Expert]:
    """As if they had been prepared."""
    experts = [general, other]
    command = [sys.executable, "-m", "experts.engines.reference", *(str(expert.folder) for expert in experts)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    answers = [orjson.loads(line)["canary"] for line in lines]
    canaries = [
        Canary(*(tuple(answer[key]) for key in ("prompt", "tokens", "logprobs"))) for answer in answers
    ]
    return [replace(expert, canary=canary) for expert, canary in zip(experts, canaries, strict=True)]


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        "simulated",
        "simulated process",
        pytest.param("plain", marks=pytest.mark.engine),
        pytest.param("interleaved", marks=pytest.mark.engine),
        pytest.param("lora", marks=pytest.mark.engine),
    ],
)
async def bench(
    request: pytest.FixtureRequest,
    general: Expert,
    other: Expert,
    base_checkpoint: Path,
    nurseries: Nurseries,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Bench]:
    kind: Kind = request.param
    engine: Engine
    # In bfloat16 the same words of different batches may differ by their rounding.
    sizes = {
        "dtype": "float32",
        "max_model_len": 512,
        "kv_cache": "256MiB",
        "max_num_seqs": 32,
        "max_stall_ms": 10,
    }
    if kind == "simulated":
        engine = SimulatedEngine("f", SimulationConfig(tokens_per_s=1000, switch_s=0))
    elif kind == "simulated process":
        config = FamilyConfig(mode="simulated", simulation=SimulationConfig(tokens_per_s=500, switch_s=0))
        engine = SimulatedProcess("f", config, tmp_path_factory.mktemp("logs"))
    elif kind == "lora":
        folder = tmp_path_factory.mktemp("adapters")
        general, other = an_adapter("general", folder, "coding"), an_adapter("other", folder, "law")
        config = FamilyConfig.model_validate({"mode": kind, "base": {"embedded": "base"}, **sizes})
        logs = tmp_path_factory.mktemp("logs")
        engine = LoraEngine("f", config, logs, base_checkpoint, [general, other], nurseries=nurseries)
    else:
        general, other = request.getfixturevalue("with_canaries")
        config = FamilyConfig.model_validate({"mode": kind, **sizes})
        engine = full_weights_engine("f", config, tmp_path_factory.mktemp("logs"), nurseries=nurseries)
    await engine.start(general, general.folder)
    yield Bench(kind, engine, general, other)
    await engine.stop()


def images_in(folder: Path) -> list[tuple[int, int]]:
    """Identity and size of each."""
    return [(file.stat().st_ino, file.stat().st_size) for file in sorted(folder.iterdir())]


def libraries_of(server: int) -> list[Path]:
    """What torch has compiled for an engine: by default it is kept in its temporary folder."""
    temporary = Path(f"/proc/{server}/cwd/")
    assert (temporary / "engine.sock").exists()
    return [*temporary.rglob("*.so")]


def damage_one(folder: Path) -> None:
    with next(folder.iterdir()).open("r+b") as file:
        file.seek(100_000_000)
        file.write(b"damage")


async def test_an_engine_starts_with_one_expert_resident(bench: Bench) -> None:
    assert bench.engine.state == "ready"
    assert await bench.engine.alive()
    statistics = await bench.engine.statistics()
    assert (statistics.resident, statistics.running) == (("general",), 0)
    assert statistics.active == (None if bench.kind == "lora" else "general")
    bench.answers["general"] = await answers(bench.engine, "general")


@REAL
async def test_nothing_is_compiled_on_cpu(bench: Bench) -> None:
    """Nor the one function that log-probabilities need."""
    answer = await bench.engine.request("general", PATH, asking(PROMPTS[0], logprobs=True, top_logprobs=2))
    assert orjson.loads(await read(answer))["choices"][0]["logprobs"]["content"]
    assert libraries_of(server_of(bench)) == []


async def test_a_running_engine_is_not_started_again(bench: Bench) -> None:
    with pytest.raises(EngineStartFailed, match="stop it first"):
        await bench.engine.start(bench.other, bench.other.folder)


async def test_a_stream_carries_what_the_whole_answer_says(bench: Bench) -> None:
    answer = await bench.engine.request("general", PATH, asking(PROMPTS[0], stream=True))
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    events = [event async for event in events_of(answer)]
    assert "".join(text_of(event) for event in events) == bench.answers["general"][0]
    assert {event["model"] for event in events} == {"general"}


async def test_an_answer_names_the_expert_as_its_model(bench: Bench) -> None:
    answer = await bench.engine.request("general", PATH, asking(PROMPTS[0]))
    completion = orjson.loads(await read(answer))
    assert completion["model"] == "general"
    assert completion["usage"]["completion_tokens"] > 0


async def test_an_expert_that_is_not_resident_is_refused(bench: Bench) -> None:
    with pytest.raises(ExpertNotResident, match="other"):
        await bench.engine.request("other", PATH, asking(PROMPTS[0]))


async def test_a_loaded_expert_answers_as_itself(bench: Bench) -> None:
    loaded = await bench.engine.load(bench.other, bench.other.folder)
    assert loaded.bytes > 0.9 * bench.other.weights_bytes
    bench.answers["other"] = await answers(bench.engine, "other")
    assert bench.answers["other"] != bench.answers["general"]
    if bench.engine.resident_limit == 1:
        with pytest.raises(ExpertNotResident):
            await bench.engine.request("general", PATH, asking(PROMPTS[0]))
        await bench.engine.load(bench.general, bench.general.folder)
    assert await answers(bench.engine, "general") == bench.answers["general"]


async def test_loading_a_resident_expert_again_changes_nothing(bench: Bench) -> None:
    await bench.engine.load(bench.general, bench.general.folder)
    await bench.engine.load(bench.general, bench.general.folder)
    assert await answers(bench.engine, "general") == bench.answers["general"]


async def test_an_expert_comes_back_from_the_image_it_left(bench: Bench, tmp_path: Path) -> None:
    first = await bench.engine.load(bench.other, bench.other.folder, tmp_path)
    assert first.image_bytes == sum(size for _, size in images_in(tmp_path))
    if bench.kind == "interleaved":
        assert 0.99 < first.image_bytes / first.bytes < 1.01
        left = images_in(tmp_path)
        await bench.engine.unload("other")
        await bench.engine.load(bench.other, bench.other.folder, tmp_path)
        assert await answers(bench.engine, "other") == bench.answers["other"]
        assert images_in(tmp_path) == left, "read, not written"
        await bench.engine.unload("other")
        damage_one(tmp_path)
        await bench.engine.load(bench.other, bench.other.folder, tmp_path)
        assert images_in(tmp_path) != left, "written anew"
    assert await answers(bench.engine, "other") == bench.answers["other"]
    await bench.engine.load(bench.general, bench.general.folder)
    assert await answers(bench.engine, "general") == bench.answers["general"]


@pytest.mark.parametrize(
    "damage",
    [
        "missing",
        *(pytest.param(each, marks=REAL) for each in ("truncated", "wrong shape", "tensor missing")),
        # vLLM's own reload does not look at the values; the canary does.
        pytest.param("not a number", marks=pytest.mark.kinds("interleaved", "lora")),
    ],
)
async def test_a_bad_checkpoint_leaves_the_others_serving(bench: Bench, damage: str, tmp_path: Path) -> None:
    await a_load_fails(bench, damaged(damage, bench.general, tmp_path / "bad"), "bad")


@pytest.mark.kinds("plain", "interleaved")  # neither simulated experts nor adapters have one
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no number comes of it", "fails in float32: the engine answers 400"),
        ("other numbers", r"fails in float32: token \d+ of 16 \(id \d+\) should have log-probability"),
    ],
)
async def test_an_expert_that_fails_its_canary_leaves_the_others_serving(
    bench: Bench, damage: str, said: str, tmp_path: Path
) -> None:
    assert bench.general.canary is not None
    bad = replace(damaged(damage, bench.general, tmp_path / "bad"), canary=bench.general.canary)
    await a_load_fails(bench, bad, f"bad: its canary {said}")


async def a_load_fails(bench: Bench, bad: Expert, said: str) -> None:
    with pytest.raises(LoadFailed, match=said):
        await bench.engine.load(bad, bad.folder)
    with pytest.raises(ExpertNotResident):
        await bench.engine.request("bad", PATH, asking(PROMPTS[0]))
    for _ in range(2):  # with blocks of the KV pool that the bad one has left
        assert await answers(bench.engine, "general") == bench.answers["general"]


async def test_weights_that_change_under_a_name_do_not_meet_old_prefixes(bench: Bench) -> None:
    disguised = expert_at("general", bench.other.folder)
    await bench.engine.load(disguised, disguised.folder)
    got = await answers(bench.engine, "general")
    await bench.engine.load(bench.general, bench.general.folder)
    if bench.real:
        assert got == bench.answers["other"]
    assert await answers(bench.engine, "general") == bench.answers["general"]


async def test_closing_an_answer_ends_its_work(bench: Bench) -> None:
    answer = await bench.engine.request("general", PATH, endless())
    await anext(answer.chunks())
    assert (await bench.engine.statistics()).running == 1
    await answer.close()
    await answer.close()
    await until_idle(bench.engine)


async def test_cancelling_a_request_ends_its_work(bench: Bench) -> None:
    asked = asyncio.create_task(bench.engine.request("general", PATH, {**endless(), "stream": False}))
    await eventually(lambda: running(bench.engine), 1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await until_idle(bench.engine)


async def test_an_unloaded_expert_is_refused_and_comes_back(bench: Bench) -> None:
    await bench.engine.unload("nobody")
    await bench.engine.unload("general")
    with pytest.raises(ExpertNotResident):
        await bench.engine.request("general", PATH, asking(PROMPTS[0]))
    assert "general" not in (await bench.engine.statistics()).resident
    await bench.engine.load(bench.general, bench.general.folder)
    assert await answers(bench.engine, "general") == bench.answers["general"]


async def test_an_engine_without_any_expert_takes_one(bench: Bench) -> None:
    for name in (await bench.engine.statistics()).resident:
        await bench.engine.unload(name)
    assert (await bench.engine.statistics()).resident == ()
    await bench.engine.load(bench.general, bench.general.folder)
    assert await answers(bench.engine, "general") == bench.answers["general"]


@pytest.mark.kinds("simulated", "simulated process", "plain", "interleaved")
async def test_switches_are_counted(bench: Bench) -> None:
    before = await bench.engine.statistics()
    await bench.has_both()
    for name in ("other",) if bench.engine.resident_limit == 1 else ("general", "other"):
        await answers(bench.engine, name)
    after = await bench.engine.statistics()
    assert after.active == "other"
    assert after.switches > before.switches
    assert not bench.real or after.switch_seconds > before.switch_seconds
    if before.busy_seconds is not None and after.busy_seconds is not None:
        assert after.busy_seconds - before.busy_seconds > after.switch_seconds - before.switch_seconds


@SEVERAL
async def test_experts_that_stream_at_once_take_turns_and_stay_themselves(bench: Bench) -> None:
    assert bench.engine.resident_limit != 1
    await bench.has_both()
    order: list[str] = []

    async def stream(name: str, prompt: str) -> str:
        answer = await bench.engine.request(name, PATH, asking(prompt, stream=True))
        text = ""
        async for event in events_of(answer):
            assert event["model"] == name
            text += text_of(event)
            order.append(name)
        return text

    names = ("general", "other")
    texts = await asyncio.gather(*(stream(name, prompt) for prompt in PROMPTS for name in names))
    assert list(texts[0::2]) == bench.answers["general"]
    assert list(texts[1::2]) == bench.answers["other"]
    assert sum(one != after for one, after in pairwise(order)) >= 4


@SEVERAL
async def test_a_stream_goes_on_while_another_expert_is_loaded(bench: Bench) -> None:
    assert bench.engine.resident_limit != 1
    await bench.has_both()
    alone = await longer(bench.engine, "general", [])
    texts: list[str] = []
    arrived: list[int] = []
    streaming = asyncio.create_task(longer(bench.engine, "general", texts))
    await eventually(lambda: running(bench.engine), 1)
    while not streaming.done():
        await bench.engine.unload("other")
        before = len(texts)
        await bench.engine.load(bench.other, bench.other.folder)
        arrived.append(len(texts) - before)
    assert await streaming == alone
    assert bench.kind != "interleaved" or max(arrived) >= 5, "the engine computed many times during one load"
    assert await answers(bench.engine, "other") == bench.answers["other"]


@pytest.mark.kinds("interleaved")  # others load an expert in one piece
async def test_a_load_whose_caller_leaves_is_given_up(bench: Bench) -> None:
    await bench.has_both()
    third = expert_at("third", bench.other.folder)
    for wait_s in (0.02, 0.1):
        loading = asyncio.create_task(bench.engine.load(third, third.folder))
        await asyncio.wait([loading], timeout=wait_s)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert set((await bench.engine.statistics()).resident) == {"general", "other"}
        assert await answers(bench.engine, "general") == bench.answers["general"]
    await bench.engine.load(third, third.folder)
    assert await answers(bench.engine, "third") == bench.answers["other"]
    await bench.engine.unload("third")


@pytest.mark.kinds("interleaved")  # others load an expert in one piece
async def test_a_load_that_is_unloaded_under_way_fails_and_the_others_serve(bench: Bench) -> None:
    assert isinstance(bench.engine, VllmEngine)
    await bench.has_both()
    third = expert_at("third", bench.other.folder)
    loading = asyncio.create_task(bench.engine.load(third, third.folder))
    while not loading.done():
        await bench.engine.server.worker("coe_unload", "third")
    with pytest.raises(LoadFailed, match="abandoned"):
        await loading
    assert await answers(bench.engine, "general") == bench.answers["general"]


@pytest.mark.kinds("interleaved")  # no other is told which expert
async def test_the_engine_itself_refuses_an_expert_it_does_not_hold(bench: Bench) -> None:
    # A resident name on its way out: the request says "general", the client's own field says otherwise.
    assert isinstance(bench.engine, VllmEngine)
    await bench.has_both()
    streaming = await bench.engine.request("other", PATH, {**endless(), "max_tokens": 60})
    status, body = await bench.engine.server.call(
        "POST", PATH, {**asking(PROMPTS[0]), "model": "coe-engine", "vllm_xargs": {"expert": "nobody"}}
    )
    assert status == 500
    assert b"error" in body
    assert len([event async for event in events_of(streaming)]) > 30
    assert await answers(bench.engine, "general") == bench.answers["general"]
    await until_idle(bench.engine)


async def test_a_dead_engine_is_noticed_and_starts_again(bench: Bench) -> None:
    await bench.has_both()
    death = asyncio.create_task(bench.engine.died())
    answer = await bench.engine.request("other", PATH, endless())
    chunks = answer.chunks()
    await anext(chunks)
    begun = time.monotonic()
    kill(bench)
    with pytest.raises(EngineLost):
        _ = [chunk async for chunk in chunks]
    assert "engine of f" in await death
    assert time.monotonic() - begun < 10
    assert bench.engine.state == "dead"
    assert not await bench.engine.alive()
    with pytest.raises(EngineUnavailable):
        await bench.engine.statistics()
    await bench.engine.start(bench.other, bench.other.folder)
    assert await answers(bench.engine, "other") == bench.answers["other"], "loaded beside is as served alone"


@pytest.mark.kinds("simulated", "simulated process", "interleaved")
async def test_an_engine_that_sleeps_gives_memory_back_and_a_load_wakes_it(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.has_both()
    before, server = await bench.engine.statistics(), server_of(bench) if bench.real else 0
    used = memory_of(server) if bench.real else 0
    assert len(before.resident) == 2
    for _ in range(2):
        await bench.engine.sleep()
        assert bench.engine.state == "asleep"
        with pytest.raises((EngineUnavailable, ExpertNotResident)):
            await bench.engine.request("other", PATH, asking(PROMPTS[0]))
    if bench.real:
        weights = bench.general.weights_bytes + bench.other.weights_bytes
        assert memory_of(server) < used - weights
    await bench.engine.load(bench.other, bench.other.folder)
    assert bench.engine.state == "ready"
    assert await answers(bench.engine, "other") == bench.answers["other"]
    await bench.engine.load(bench.general, bench.general.folder)
    assert await answers(bench.engine, "general") == bench.answers["general"]
    assert sorted((await bench.engine.statistics()).resident) == ["general", "other"]
    assert not bench.real or server_of(bench) == server, "the same process"


async def test_stop_leaves_no_process_socket_or_segment(bench: Bench) -> None:
    server = server_of(bench) if bench.real else 0
    folder = Path(os.readlink(f"/proc/{server}/cwd")) if bench.real else Path("/nowhere")
    segments = shared_memory_of(server) if bench.real else []
    await bench.engine.stop()
    await bench.engine.stop()
    assert bench.engine.state == "stopped"
    assert not bench.real or list(session_members(server)) == []
    assert not folder.exists()
    assert not any(segment.exists() for segment in segments)
    with pytest.raises((EngineUnavailable, ExpertNotResident)):
        await bench.engine.request("other", PATH, asking(PROMPTS[0]))


async def test_a_start_that_fails_says_why_and_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    missing, before = expert_at("missing", tmp_path), servers()
    with pytest.raises(EngineStartFailed, match=r"config\.json|Invalid repository ID or local directory"):
        await bench.engine.start(missing, missing.folder)
    assert bench.engine.state == "stopped"
    assert servers() == before


def memory_of(server: int) -> int:
    """Bytes that the engine's processes hold, what several share once."""
    rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in session_members(server))
    return sum(
        1024 * int(line.split()[1])
        for text in rollups
        for line in text.splitlines()
        if line.startswith("Pss:")
    )


def expert_at(name: str, folder: Path) -> Expert:
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Expert(name, "f", folder, size, size // 4, "fingerprint", "")


def an_adapter(name: str, folder: Path, embedded: str) -> Expert:
    """In float32, which numpy can read and change."""
    adapter = EmbeddedSource(embedded).adapter()
    assert adapter is not None
    (folder / name).mkdir()
    shutil.copyfile(adapter.folder / "adapter_config.json", folder / name / "adapter_config.json")
    matrices = dict(adapter.matrices())
    save_file(matrices, folder / name / "adapter_model.safetensors", {"format": "pt"})
    return expert_at(name, folder / name)


def damaged(damage: str, source: Expert, folder: Path) -> Expert:
    if damage == "missing":
        return expert_at("bad", folder)
    shutil.copytree(source.folder, folder)
    (weights,) = folder.glob("*.safetensors")
    if damage == "truncated":
        with weights.open("r+b") as file:
            file.truncate(weights.stat().st_size // 2)
        return expert_at("bad", folder)
    tensors = load_file(weights)
    name = next(name for name in tensors if "layers.3.mlp.up_proj" in name)
    if damage == "not a number":
        tensors[name][3, 2] = np.nan
    elif damage == "no number comes of it":
        for projection in ("q_proj", "k_proj"):
            tensors[f"model.layers.3.self_attn.{projection}.weight"] *= np.float32(1e25)
    elif damage == "other numbers":
        tensors[name] = tensors[name][::-1].copy()
    elif damage == "wrong shape":
        tensors[name] = np.ascontiguousarray(tensors[name].T)
    else:
        del tensors[name]
    save_file(tensors, weights, {"format": "pt"})
    return expert_at("bad", folder)


def asking(prompt: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"messages": messages, "temperature": 0, "max_tokens": 16, **more}


def endless() -> dict[str, Any]:
    return asking(PROMPTS[1], stream=True, max_tokens=400, ignore_eos=True)


async def answers(engine: Engine, expert: str) -> list[str]:
    """The texts for all prompts, asked at once."""
    bodies = await asyncio.gather(*(_whole(engine, expert, prompt) for prompt in PROMPTS))
    return [body["choices"][0]["message"]["content"] for body in bodies]


async def longer(engine: Engine, expert: str, texts: list[str]) -> str:
    """A text of 150 tokens, whose parts are put into ``texts`` as they come."""
    answer = await engine.request(expert, PATH, {**endless(), "max_tokens": 150})
    async for event in events_of(answer):
        texts.append(text_of(event))
    return "".join(texts)


async def _whole(engine: Engine, expert: str, prompt: str) -> dict[str, Any]:
    answer = await engine.request(expert, PATH, asking(prompt))
    body: dict[str, Any] = orjson.loads(await read(answer))
    assert answer.status == 200, body
    return body


async def read(answer: EngineResponse) -> bytes:
    return await answer.whole()


async def events_of(answer: EngineResponse) -> AsyncIterator[dict[str, Any]]:
    async for chunk in answer.chunks():
        for event in chunk.decode().split("\n\n"):
            if event.startswith("data: {"):
                yield orjson.loads(event.removeprefix("data: "))


def text_of(event: dict[str, Any]) -> str:
    return event["choices"][0]["delta"].get("content") or "" if event["choices"] else ""


async def running(engine: Engine) -> int:
    return (await engine.statistics()).running


async def until_idle(engine: Engine) -> None:
    await eventually(lambda: running(engine), 0)


async def eventually(value: Callable[[], Any], wanted: int) -> None:
    async with asyncio.timeout(60):
        while await value() != wanted:  # noqa: ASYNC110 (it happens in another process)
            await asyncio.sleep(0.01)


def kill(bench: Bench) -> None:
    """Plain: the server. Else: its engine core, which the server would outlive by seconds."""
    if isinstance(bench.engine, SimulatedEngine):
        return bench.engine.crash()
    server = server_of(bench)
    victim = server
    if bench.kind in ("interleaved", "lora"):
        others = [pid for pid in session_members(server) if pid != server]
        victim = max(others, key=lambda pid: psutil.Process(pid).memory_info().rss)
    os.kill(victim, signal.SIGKILL)
    return None


def server_of(bench: Bench) -> int:
    assert isinstance(bench.engine, VllmEngine)
    return bench.engine.server.process.pid


def servers() -> list[int]:
    """Servers that this process has started, or had forked, for others too."""
    children = _children(os.getpid())
    forked = [pid for child in children if "nursery" in _command_line(child) for pid in _children(child)]
    return [pid for pid in (*children, *forked) if "vllm.entrypoints" in _command_line(pid)]


def shared_memory_of(session: int) -> list[Path]:
    maps = [Path(f"/proc/{pid}/maps").read_text() for pid in session_members(session)]
    names = {line.split()[-1] for lines in maps for line in lines.splitlines() if "/dev/shm/psm_" in line}
    return [Path(name) for name in names]


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
