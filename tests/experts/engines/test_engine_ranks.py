"""One engine of three workers, each with its shard of every expert (tensor parallelism), on CPU.

Tests share the engine and run in the order of this file.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from experts.engines.nursery import Nurseries
from experts.spec import Expert, FamilyConfig
from experts.vllm.engine import VllmEngine
from experts.vllm.modes import full_weights_engine
from memory_tiers.driver.host_store import HostStore
from tests.experts.engines.real_engine import (
    NOISE,
    Said,
    ask,
    expert_at,
    kill,
    maps,
    process,
    said_alone,
    until,
)
from tests.plain_vllm import PlainVllm

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

RANKS = 3
"""SmolLM2 has 9 heads and 3 key-value heads."""
PROMPT = "How do I sort a list in Python?"
TOKENS = 4
"""Few: where there are fewer cores than workers, these wait for each other many times in a token."""


@pytest.fixture(scope="module")
def experts(store: Path) -> dict[str, Expert]:
    return {name: expert_at(name, store / name) for name in ("general", "math", "coding")}


@pytest.fixture(scope="module")
def alone(experts: dict[str, Expert], plain: PlainVllm) -> Mapping[str, Said]:
    """What unmodified vLLM says on one device."""
    return {name: said_alone(plain, experts[name], [PROMPT], TOKENS)[0] for name in ("general", "math")}


@pytest.fixture(scope="module")
def host() -> Iterator[HostStore]:
    host = HostStore()
    yield host
    host.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(
    experts: dict[str, Expert],
    alone: object,
    nurseries: Nurseries,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[VllmEngine]:
    """``general`` resident; ``alone`` comes first so that two engines never compute at once."""
    config = {"dtype": "float32", "max_model_len": 256, "kv_cache": "64MiB", "max_num_seqs": 32}
    slices = {"max_stall_ms": 0.1, "tensor_parallel_size": RANKS}
    engine = full_weights_engine(
        "f",
        FamilyConfig.model_validate(config | slices),
        tmp_path_factory.mktemp("logs"),
        nurseries=nurseries,
    )
    try:
        await engine.start(experts["general"], experts["general"].folder)
        yield engine
    finally:
        await engine.stop()


async def test_shards_are_kept_as_images_and_answer_as_the_whole(
    engine: VllmEngine, experts: dict[str, Expert], alone: Mapping[str, Said], host: HostStore
) -> None:
    math, images = experts["math"], host.images("math")
    loaded = await engine.load(math, math.folder, images)
    left = images_in(images)
    assert [name for name, *_ in left] == [f"image-{rank}" for rank in range(RANKS)]
    assert loaded.image_bytes == sum(size for _, size, _ in left)
    await engine.unload("math")
    await engine.load(math, math.folder, images)
    assert images_in(images) == left, "read, not written"

    begun = (await engine.statistics()).switches
    said = await asyncio.gather(*(ask(engine, name, PROMPT, TOKENS) for name in alone))
    assert (await engine.statistics()).switches - begun >= TOKENS
    assert [each.tokens for each in said] == [each.tokens for each in alone.values()]
    assert max(each.noise(other) for each, other in zip(said, alone.values(), strict=True)) < NOISE


async def test_a_worker_killed_while_it_loads_ends_the_engine(
    engine: VllmEngine, experts: dict[str, Expert], host: HostStore
) -> None:
    coding, worker = experts["coding"], process(engine, "Worker_TP1")
    loading = asyncio.create_task(load(engine, coding, host.images("coding")))
    await until(lambda: maps(worker, coding.folder / "model.safetensors"), loading)
    await kill(engine, worker, loading)
    assert not list(host.images("coding").glob("image-?"))


async def load(engine: VllmEngine, expert: Expert, images: Path) -> None:
    await engine.load(expert, expert.folder, images)


def images_in(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and identity of each."""
    return [(file.name, file.stat().st_size, file.stat().st_ino) for file in sorted(folder.iterdir())]
