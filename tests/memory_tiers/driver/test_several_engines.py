"""The manager over two engines of one family and one host."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from experts.spec import Expert
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.manager import TierManager
from memory_tiers.observations import MoveDone, Observation
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.driver.engine_in_hand import EngineInHand


@contextlib.asynccontextmanager
async def two_engines(
    tmp_path: Path, seen: list[Observation]
) -> AsyncIterator[tuple[TierManager, EngineInHand, EngineInHand]]:
    experts = []
    for name in "abc":
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(bytes(10))
        experts.append(Expert(name, "f", folder, 10, 0, "f", ""))
    first, second = EngineInHand(), EngineInHand(family="f#2")
    config = TiersConfig.model_validate({"device": 40, "host": 100, "min_residency_s": 0})
    host = HostStore(tmp_path)
    manager = TierManager(config, experts, {"f": first, "f#2": second}, host, seen.append)
    await manager.start()
    await manager.ready()
    try:
        yield manager, first, second
    finally:
        await manager.close(drain_s=0.0)


async def test_each_expert_is_asked_for_where_it_is_and_observed_by_its_own_name(tmp_path: Path) -> None:
    seen: list[Observation] = []
    async with two_engines(tmp_path, seen) as (manager, first, second):
        async with asyncio.timeout(20):
            while not all(engine.resident for engine in (first, second)):  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert ({*first.resident}, {*second.resident}) == ({"a"}, {"b"})
        with await manager.lease("a") as one, await manager.lease("b") as other:
            assert (one.engine, other.engine) == (first, second)
        with await manager.lease("c") as lease:
            assert "c" in lease.engine.resident  # type: ignore[attr-defined]
        status = {each.expert: (each.family, each.tier, each.engines) for each in manager.status()}
        assert status["b"] == ("f", "device", ("f#2",))
    assert {each.expert for each in seen if isinstance(each, MoveDone)} <= {"a", "b", "c"}


async def test_an_engine_that_is_killed_leaves_the_other_serving_and_comes_back(tmp_path: Path) -> None:
    async with two_engines(tmp_path, []) as (manager, first, second):
        async with asyncio.timeout(20):
            while not all(engine.resident for engine in (first, second)):  # noqa: ASYNC110
                await asyncio.sleep(0)
            with await manager.lease("b") as kept:
                first.gate.clear()
                first.die("its card failed")
                while manager.readiness.engines[0].state == "ready":  # noqa: ASYNC110
                    await asyncio.sleep(0)
                with await manager.lease("a") as lease:
                    assert lease.engine is second, "brought to the card that is left"
                assert manager.readiness.ready, "the family is served"
                assert kept.engine is second
            first.gate.set()
            while first.state != "ready":  # noqa: ASYNC110
                await asyncio.sleep(0)
