"""Memory that runs out is one failed move: whoever is served is served on, and nothing is left behind."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from experts.checkpoints.hashing import PIECE_BYTES
from experts.memory.shared_memory import room_in
from experts.spec import Expert
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.manager import TierManager
from memory_tiers.driver.staging import Disk
from memory_tiers.errors import HostFull, LeaseRejected
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.driver.engine_in_hand import EngineInHand

MB = 2**20


class Meanwhile(Disk):
    """Something happens once the first piece has been read, when there was room for all of them."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self._happens = happens
        self.reads = 0

    def read(self, descriptor: int, buffer: memoryview, position: int) -> int:
        self.reads += 1
        if self.reads == 2:
            self._happens()
        return super().read(descriptor, buffer, position)


def an_expert(folder: Path, size: int) -> Expert:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(size))
    return Expert(folder.name, "f", folder, size, 0, "f", "")


def fill(folder: Path) -> None:
    """All that is left of a memory file system."""
    with (folder / "somebody-else").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                pass
        except OSError:
            return


def of_the_store(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name != "somebody-else"]


def test_weights_leave_a_twentieth_of_a_small_file_system_free(small_memory: Path) -> None:
    assert room_in(small_memory) == 16 * MB - 16 * MB // 20
    fill(small_memory)
    assert room_in(small_memory) == 0


def test_a_copy_that_would_fill_shared_memory_to_the_brim_is_not_begun(
    small_memory: Path, tmp_path: Path
) -> None:
    expert, store = an_expert(tmp_path / "a", 16 * MB - 4096), HostStore(small_memory)
    with pytest.raises(HostFull, match=r"has room for 15,938,356: lower tiers.host") as full:
        store.load(expert)
    assert full.value.held == 15_938_356
    store.close()


def test_shared_memory_that_is_full_half_way_is_a_failed_load_that_leaves_nothing(
    small_memory: Path, tmp_path: Path
) -> None:
    expert = an_expert(tmp_path / "a", 4 * PIECE_BYTES)
    store = HostStore(small_memory, Meanwhile(lambda: fill(small_memory)))
    with pytest.raises(HostFull, match=r"No space left on device.*: lower tiers\.host"):
        store.load(expert)
    assert of_the_store(small_memory) == []
    (small_memory / "somebody-else").unlink()
    assert store.load(expert).bytes == expert.weights_bytes, "the next one finds room"
    store.close()


class WithoutMemory(Disk):
    """``errors`` are raised by the next reads."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def read(self, descriptor: int, buffer: memoryview, position: int) -> int:
        if self.errors:
            raise self.errors.pop()
        return super().read(descriptor, buffer, position)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))])
async def test_a_gateway_without_memory_for_a_move_serves_on(tmp_path: Path, error: Exception) -> None:
    experts = [an_expert(tmp_path / name, 1000) for name in "ab"]
    disk, engine = WithoutMemory(), EngineInHand()
    config = TiersConfig.model_validate({"device": 1000, "host": 2000, "min_residency_s": 0})
    manager = TierManager(config, experts, {"f": engine}, HostStore(tmp_path, disk))
    await manager.start()
    await manager.ready()
    disk.errors.append(error)
    with pytest.raises(LeaseRejected, match="b"):
        await manager.lease("b")
    for name in "ab":
        with await manager.lease(name) as lease:
            assert lease.expert == name
    assert engine.calls.count("start a") == 1
    await manager.close(1.0)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


async def test_a_budget_over_what_shared_memory_holds_costs_copies_and_no_request(
    small_memory: Path, tmp_path: Path
) -> None:
    names = "abcdef"
    experts = [an_expert(tmp_path / name, 4 * MB) for name in names]
    config = TiersConfig.model_validate({"device": 4 * MB, "host": 1000 * MB, "min_residency_s": 0})
    store = HostStore(small_memory)
    manager = TierManager(config, experts, {"f": EngineInHand()}, store)
    await manager.start()
    await manager.ready()
    for name in names * 3:
        with await manager.lease(name) as lease:
            assert lease.expert == name
    _, host, _ = manager.usage()
    assert host.capacity_bytes is not None
    assert host.capacity_bytes < 16 * MB
    fill(small_memory)
    for name in names:
        with await manager.lease(name) as lease:
            assert lease.expert == name
    await manager.close(1.0)
    assert of_the_store(small_memory) == []
