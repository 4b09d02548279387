"""What goes wrong on real vLLM and how it ends: others serve on, or the engine ends, says so, starts again.

Tests share one engine, whose KV pool has seven blocks, and run in the order of this file.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from safetensors.numpy import load_file, save_file

from experts.engines.nursery import Nurseries
from experts.errors import EngineUnavailable, ExpertNotResident, LoadFailed
from experts.spec import Expert, FamilyConfig
from experts.vllm.engine import VllmEngine
from experts.vllm.modes import full_weights_engine
from memory_tiers.driver.host_store import HostStore
from tests.experts.engines.real_engine import (
    Said,
    ask,
    ask_alone,
    expert_at,
    kill,
    maps,
    process,
    processes,
    until,
)

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

BLOCK = 128
"""Tokens in a block of the KV pool."""
BLOCKS = 7
PROMPTS = ("How do I sort a list in Python?", "What are the symptoms of pneumonia?")
TOKENS = 16
STAYING = 160
ENDLESS = 400
FULL_TOKENS = 16
"""Of an answer that makes its request outgrow its first block."""


@dataclass
class Bench:
    """``general`` and ``math`` are resident, ``math`` with an image on the host; ``coding`` is loaded by the
    tests."""

    engine: VllmEngine
    host: HostStore
    general: Expert
    math: Expert
    coding: Expert
    alone: dict[str, list[Said]] = field(default_factory=dict)

    async def start(self) -> None:
        await self.engine.start(self.general, self.general.folder)
        await self.load(self.math)

    async def load(self, expert: Expert) -> None:
        loaded = await self.engine.load(expert, expert.folder, self.host.images(expert.name))
        assert loaded.image_bytes > expert.weights_bytes

    def image(self, expert: Expert) -> Path:
        return self.host.images(expert.name) / "image-0"

    async def serves(self, *experts: Expert) -> None:
        """Each as it was when it was alone."""
        for expert in experts:
            said = await ask_alone(self.engine, expert.name, PROMPTS, TOKENS)
            assert tokens_of(said) == tokens_of(self.alone[expert.name])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(
    store: Path, nurseries: Nurseries, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    config = FamilyConfig.model_validate(
        {
            "dtype": "float32",
            "max_model_len": 512,
            "kv_cache": "48MiB",
            "max_num_seqs": 32,
            "max_stall_ms": 0.1,
        }
    )
    logs, host = tmp_path_factory.mktemp("logs"), HostStore()
    engine = full_weights_engine("f", config, logs, nurseries=nurseries)
    general, math, coding = (expert_at(name, store / name) for name in ("general", "math", "coding"))
    bench = Bench(engine, host, general, math, coding)
    try:
        await bench.start()
        await engine.load(bench.coding, bench.coding.folder)
        for name in ("general", "math", "coding"):
            bench.alone[name] = await ask_alone(engine, name, PROMPTS, TOKENS)
        await engine.unload("coding")
        yield bench
    finally:
        await engine.stop()
        host.close()


@pytest.mark.parametrize("damage", ["all tensors", "one tensor"])
async def test_a_checkpoint_of_another_dtype_is_refused_by_the_tensors_name(
    bench: Bench, damage: str, tmp_path: Path
) -> None:
    folder = tmp_path / "narrow"
    shutil.copytree(bench.general.folder, folder)
    tensors = load_file(folder / "model.safetensors")
    name = min(tensors) if damage == "all tensors" else "model.layers.3.mlp.up_proj.weight"
    for each in tensors if damage == "all tensors" else [name]:
        tensors[each] = tensors[each].astype(np.float16)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    narrow = expert_at("narrow", folder)
    with pytest.raises(LoadFailed, match=rf"narrow: .*tensor {name} is F16 .*in this family it is F32"):
        await bench.engine.load(narrow, folder, bench.host.images("narrow"))
    with pytest.raises(ExpertNotResident):
        await ask(bench.engine, "narrow", PROMPTS[0], TOKENS)
    assert list(bench.host.images("narrow").iterdir()) == []
    await bench.serves(bench.general, bench.math)


async def test_clients_that_leave_while_another_expert_computes_end_their_work_only(bench: Bench) -> None:
    engine = bench.engine
    stays = [asyncio.create_task(ask(engine, "general", prompt, STAYING)) for prompt in PROMPTS]
    for _ in range(4):
        (leaves,) = await streaming(engine, "math")
        while (await engine.statistics()).active == "math":
            assert not leaves.done()
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        while (await engine.statistics()).running > len(stays):
            assert not stays[0].done()
    beside = [await each for each in stays]
    assert (await engine.statistics()).running == 0
    assert tokens_of(beside) == tokens_of(await ask_alone(engine, "general", PROMPTS, STAYING))
    await bench.serves(bench.math)


async def test_experts_that_fill_the_pool_together_are_preempted_and_all_answer_as_alone(
    bench: Bench,
) -> None:
    engine = bench.engine
    first = [_filling(number) for number in range(BLOCKS + 2)]
    later = [_filling(number) for number in range(20, 23)]
    alone = [
        await ask_alone(engine, "general", first, FULL_TOKENS),
        await ask_alone(engine, "math", later, FULL_TOKENS),
    ]
    for said in (*alone[0], *alone[1]):
        assert said.prompt_tokens < BLOCK < said.prompt_tokens + FULL_TOKENS
    before = await preemptions(engine)
    growing = [Said() for _ in first]
    filling = [
        asyncio.create_task(ask(engine, "general", prompt, FULL_TOKENS, said))
        for prompt, said in zip(first, growing, strict=True)
    ]
    await until(lambda: sum(bool(said.tokens) for said in growing) >= BLOCKS - 1)
    waiting = await asyncio.gather(*(ask(engine, "math", prompt, FULL_TOKENS) for prompt in later))
    filled = await asyncio.gather(*filling)
    assert await preemptions(engine) > before
    assert [tokens_of(filled), tokens_of(waiting)] == [tokens_of(alone[0]), tokens_of(alone[1])]
    assert (await engine.statistics()).running == 0


async def test_a_core_killed_while_it_loads_and_switches_ends_the_engine_and_nothing_else(
    bench: Bench,
) -> None:
    engine = bench.engine
    before = (await engine.statistics()).switches
    streams = await streaming(engine, "general", "math")
    assert (await engine.statistics()).switches > before
    core = process(engine, "EngineCore")
    loading = asyncio.create_task(bench.load(bench.coding))
    await until(lambda: maps(core, bench.coding.folder / "model.safetensors"), loading)
    await kill(bench.engine, core, loading, *streams)
    assert not bench.image(bench.coding).exists()
    await comes_back(bench)


async def test_a_core_killed_while_it_writes_an_image_leaves_none_that_would_be_used(bench: Bench) -> None:
    partial = bench.image(bench.coding).with_suffix(".partial")
    loading = asyncio.create_task(bench.load(bench.coding))
    await until(partial.exists, loading)
    await kill(bench.engine, process(bench.engine, "EngineCore"), loading)
    assert partial.exists()
    assert not bench.image(bench.coding).exists()
    await comes_back(bench)
    await bench.load(bench.coding)
    assert list(bench.host.images("coding").iterdir()) == [bench.image(bench.coding)]
    await bench.serves(bench.coding)
    await bench.engine.unload("coding")


async def test_a_server_killed_while_an_image_is_read_ends_the_engine_and_spares_the_image(
    bench: Bench,
) -> None:
    streams = await streaming(bench.engine, "general", "math")
    core, image = process(bench.engine, "EngineCore"), bench.image(bench.coding)
    left = identity(image)
    loading = asyncio.create_task(bench.load(bench.coding))
    await until(lambda: maps(core, image), loading)
    await kill(bench.engine, processes(bench.engine)[0], loading, *streams)
    await comes_back(bench)
    await bench.load(bench.coding)
    assert identity(image) == left, "read, not written"
    await bench.serves(bench.coding)


async def comes_back(bench: Bench) -> None:
    """Until it is started again the engine takes nobody; then ``math`` comes from the image that was left,
    and both answer as ever."""
    with pytest.raises(EngineUnavailable):
        await bench.load(bench.math)
    with pytest.raises(EngineUnavailable):
        await ask(bench.engine, "general", PROMPTS[0], TOKENS)
    left = identity(bench.image(bench.math))
    await bench.start()
    assert identity(bench.image(bench.math)) == left, "read, not written"
    await bench.serves(bench.general, bench.math)


async def streaming(engine: VllmEngine, *experts: str) -> list["asyncio.Task[Said]"]:
    """A long stream of each expert, all under way."""
    said = [Said() for _ in experts]
    tasks = [
        asyncio.create_task(ask(engine, expert, PROMPTS[0], ENDLESS, each))
        for expert, each in zip(experts, said, strict=True)
    ]
    await until(lambda: all(len(each.tokens) > 3 for each in said))
    return tasks


async def preemptions(engine: VllmEngine) -> int:
    _, body = await engine.server.call("GET", "/metrics")
    lines = [line for line in body.decode().splitlines() if line.startswith("vllm:num_preemptions_total")]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


def identity(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_ino, found.st_mtime_ns


def tokens_of(said: list[Said]) -> list[list[int]]:
    return [each.tokens for each in said]


def _filling(number: int) -> str:
    """Nearly a block of tokens, no two with a beginning in common."""
    return (
        f"Chapter {number}. The old harbour lay quiet under a grey sky, and the fishermen mended their nets "
        "while the gulls circled above the pier. Anna had come back after eleven years, with one suitcase "
        "and a letter that she had never opened. Nobody knew her any more, except the keeper of the "
        "lighthouse, who had taught her the names of the winds when she was a child. He saw her from afar, "
        "put down his lamp, and walked slowly along the wall towards her. For a long time neither of them "
        "said a word. Then he asked her, in a low voice,"
    )
