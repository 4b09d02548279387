"""Memory that runs out while a worker loads an expert: an answer, and the experts held compute as before."""

import errno
import os
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experts.checkpoints.tensor_headers import read_headers
from experts.inside_vllm.weights.images import CopyImages, Image, PointerImages
from tests.experts.inside_vllm.weights.test_loading import Model, made, value_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm.config import VllmConfig
    from vllm.platforms import current_platform

    from experts.inside_vllm.kv_pool import SleepingPool
    from experts.inside_vllm.step_time import StepTime
    from experts.inside_vllm.switch_time import SwitchTime
    from experts.inside_vllm.weights.arrival import Arrival, Place
    from experts.inside_vllm.weights.device_room import check_room, given_back
    from experts.inside_vllm.weights.image_reader import ImageReader
    from experts.inside_vllm.weights.image_writer import ImageWriter
    from experts.inside_vllm.weights.loading import Loading
    from experts.inside_vllm.weights.pinning import PinnedFiles
    from experts.inside_vllm.weights.upload import Upload
    from experts.inside_vllm.worker import ExpertWorker

MB = 2**20
FAILURES = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
)


class Full(Model):
    """Memory runs out when the third tensor is read, while ``failure`` is set."""

    failure: Exception | None = None

    def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
        def read() -> Iterator[tuple[str, torch.Tensor]]:
            for number, item in enumerate(weights):
                if number == 2 and self.failure is not None:
                    raise self.failure
                yield item

        super().load_weights(read())


class Worker(ExpertWorker):
    """With what loading needs of it, and no engine around."""

    def __init__(self, folder: Path) -> None:
        on_cpu = current_platform.is_cpu()
        self.model = Full(folder, packing=False)
        self.pool = torch.ones(64 * MB, dtype=torch.uint8)
        self.model_runner = SimpleNamespace(
            get_model=lambda: self.model, kv_caches=[self.pool[:MB].view(4, -1), self.pool[MB:]]
        )
        self.vllm_config, self.device, self.rank = VllmConfig(), torch.device("cpu"), 0
        self.model_config = SimpleNamespace(dtype=torch.float32)
        self.parallel_config = SimpleNamespace(world_size=1)
        self._images = (PointerImages if on_cpu else CopyImages)(self.model, "a")
        self._family = read_headers(folder)
        self._switches, self._timer = 0, SwitchTime()
        self._step_time = StepTime(self._timer)
        self._derived, self._scales = None, {}
        self._image_bytes, self._slice_seconds = 0, 1e9
        self._arrival, self._pinned = None, PinnedFiles()
        self._graphs, self._asleep = None, None

    def load(self, folder: Path, images: str = "") -> dict[str, Any]:
        """As the gateway does; the last answer."""
        report = self.coe_load("b", str(folder), "stamp", images)
        while report.get("whole") is False:
            report = self.coe_load_more("b")
        return report if "error" in report else self.coe_load_end("b")


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return made(tmp_path / "a", 1)


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return made(tmp_path / "b", 2)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_load_without_memory_is_an_answer_and_the_next_one_may_succeed(
    a: Path, b: Path, failure: Exception
) -> None:
    worker = Worker(a)
    before = value_of(worker.model)
    worker.model.failure = failure
    report = worker.load(b)
    worker.model.failure = None
    assert report["error"] == f"{type(failure).__name__}: {failure}"
    assert report["resident"] == ["a"]
    assert value_of(worker.model) == before
    report = worker.load(b)
    assert report["resident"] == ["a", "b"]
    assert value_of(worker.model) == before
    worker._switch("b")
    assert value_of(worker.model) == value_of(Model(b, packing=False)) != before


def test_nothing_that_was_loaded_is_held_after_memory_ran_out(a: Path, b: Path) -> None:
    class Noted(MemoryError):
        pass

    worker = Worker(a)
    seen: list[weakref.ref[torch.Tensor]] = []

    class Watched(Full):
        def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
            loaded = [tensor for _, tensor in weights]
            seen.extend(weakref.ref(tensor) for tensor in loaded)
            raise Noted

    worker.model = Watched.__new__(Watched)
    worker.model.__dict__.update(Worker(a).model.__dict__)
    assert "Noted" in worker.load(b)["error"]
    assert seen
    assert [tensor() for tensor in seen if tensor() is not None] == []


def test_an_image_without_room_is_none_and_the_expert_is_there(a: Path, b: Path, small_memory: Path) -> None:
    images = small_memory / "images"
    images.mkdir()
    with (small_memory / "somebody-else").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 16 * MB - 65536)
    worker = Worker(a)
    report = worker.load(b, str(images))
    assert report["resident"] == ["a", "b"]
    assert list(images.iterdir()) == []


@pytest.mark.skipif(not current_platform.is_cpu(), reason="weights are not in main memory")
def test_a_machine_without_memory_for_an_expert_reads_no_checkpoint_but_takes_an_image_that_is_there(
    a: Path, b: Path, tmp_path: Path
) -> None:
    worker, images = Worker(a), tmp_path / "images"
    images.mkdir()
    worker._image_bytes = 2**60
    report = worker.load(b, str(images))
    assert report["error"].startswith("MemoryError: it needs 1,152,921,504,606,846,976 bytes, ")
    assert report["resident"] == ["a"]
    worker._image_bytes = 0
    assert worker.load(b, str(images))["converted"]
    worker._image_bytes = 2**60
    report = worker.load(b, str(images))
    assert report["resident"] == ["a", "b"]
    assert not report["converted"]


def write_all(writer: ImageWriter) -> None:
    while not writer.work(0.0):
        pass


def an_image(size: int) -> Image:
    return Image(tuple(torch.randint(255, (MB,), dtype=torch.uint8) for _ in range(size)))


def test_an_image_that_would_fill_shared_memory_to_the_brim_is_not_begun(small_memory: Path) -> None:
    with pytest.raises(OSError, match=r"it needs 16,781,312 bytes, there is room for 15,9"):
        ImageWriter(small_memory / "image-0", "key", an_image(16))
    assert list(small_memory.iterdir()) == []


def test_shared_memory_that_fills_up_while_an_image_is_written_is_an_error_and_no_signal(
    small_memory: Path,
) -> None:
    clock = iter(range(10**6)).__next__  # every look costs one: a chunk in each slice
    writer = ImageWriter(small_memory / "image-0", "key", an_image(8), clock)
    assert not writer.work(0.0)
    with (small_memory / "somebody-else").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 14 * MB)
    with pytest.raises(OSError, match="No space left"):
        write_all(writer)
    writer.close()
    assert [file.name for file in small_memory.iterdir()] == ["somebody-else"]


def test_every_page_of_an_image_is_there_before_it_is_mapped(tmp_path: Path) -> None:
    sizes = (1, 4095, 4096, 4097, 65536, 0, 3, 70_001)
    image = Image(tuple(torch.ones(size, dtype=torch.uint8) for size in sizes))
    writer = ImageWriter(tmp_path / "image-0", "key", image)
    write_all(writer)
    writer.close()
    with (tmp_path / "image-0").open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == size


class Whole(Loading):
    """A checkpoint that has been read."""

    def __init__(self, weights: Image) -> None:
        self._weights = weights

    def work(self, seconds: float) -> bool:
        return True

    def image(self) -> Image:
        return self._weights

    def close(self) -> None: ...


@pytest.mark.parametrize("failure", [*FAILURES, OSError(errno.ENOMEM, "Cannot allocate memory")], ids=repr)
def test_an_image_that_meets_no_memory_leaves_the_expert_where_it_was_converted(
    tmp_path: Path, failure: Exception
) -> None:
    class Unwritable(torch.Tensor):  # type: ignore[misc]
        def detach(self) -> torch.Tensor:
            raise failure

    weights = Image((torch.randn(4, 4).as_subclass(Unwritable),))
    place = Place(tmp_path / "image-0", "key")
    arrival = Arrival("b", lambda: Whole(weights), place, None, PinnedFiles())
    assert arrival.work(1.0)
    assert arrival.image() is weights
    arrival.close()
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_mapped_is_kept_and_the_expert_held_where_it_was_converted(
    tmp_path: Path,
) -> None:
    class Unopened(type(tmp_path)):  # type: ignore[misc]
        def open(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    weights = Image((torch.randn(4, 4),))
    place = Place(Unopened(tmp_path / "image-0"), "key")
    arrival = Arrival("b", lambda: Whole(weights), place, None, PinnedFiles())
    assert arrival.work(1.0)
    assert arrival.image() is weights
    arrival.close()
    assert ImageReader(tmp_path / "image-0", "key").work(1.0)


def test_a_device_without_memory_for_an_image_is_the_loads_error() -> None:
    too_large = torch.empty(2**60, dtype=torch.uint8, device="meta")
    with pytest.raises(RuntimeError):
        Upload(too_large, lambda memory: Image(()), torch.device("cpu"))


def test_a_load_takes_no_memory_that_the_largest_step_may_need() -> None:
    check_room(size=10, free=16, activations=6)
    with pytest.raises(torch.OutOfMemoryError, match="10 bytes of the GPU beside 7 that steps may take, 16"):
        check_room(size=10, free=16, activations=7)


def segment(size: int, used: int, pool: tuple[int, int] = (0, 0), device: int = 0) -> dict[str, Any]:
    """As torch.cuda.memory_snapshot lists it."""
    return {"device": device, "total_size": size, "active_size": used, "segment_pool_id": pool}


def test_what_torch_keeps_for_graphs_or_in_part_for_others_is_not_free() -> None:
    graphs = [segment(64, 0, pool=(0, 1)), segment(64, 16, pool=(0, 1))]
    usual = [segment(20, 0), segment(20, 1), segment(20, 0, device=1)]
    assert given_back([*graphs, *usual], device=0) == 20


def test_a_pool_that_sleeps_may_have_several_tensors_a_layer() -> None:
    attention, convolution, state = (torch.ones(4), torch.ones(2), torch.ones(3))
    pool = SleepingPool([attention, [convolution, state]])
    assert pool.bytes == 36
    assert all(part.untyped_storage().nbytes() == 0 for part in (attention, convolution, state))
    pool.wake()
    assert not any(part.any() for part in (attention, convolution, state))


def test_only_a_device_that_is_full_is_said_to_be(a: Path, b: Path) -> None:
    worker = Worker(a)
    worker.model.failure = torch.OutOfMemoryError("CUDA out of memory")
    assert worker.load(b)["full"]
    worker.model.failure = MemoryError()
    assert "full" not in worker.load(b)


def test_state_that_no_image_carries_is_no_second_expert(a: Path, b: Path) -> None:
    worker = Worker(a)
    worker._derived = "layers.0.attn.W_UV"
    assert "layers.0.attn.W_UV is derived from weights" in worker.load(b)["error"]
    worker._derived, worker._scales = None, {"layers.0.self_attn.k_scale": [0.5]}
    assert "layers.0.self_attn.k_scale is None, the engine computes with [0.5]" in worker.load(b)["error"]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_worker_that_sleeps_holds_neither_experts_nor_a_pool_and_wakes_with_both(a: Path, b: Path) -> None:
    worker = Worker(a)
    worker.load(b)
    first, second = worker.model_runner.kv_caches
    used = resident_bytes()
    for _ in range(2):
        assert worker.coe_sleep()["resident"] == []
        assert resident_bytes() < used - 56 * MB
    assert "error" not in worker.coe_wake()
    assert (first.shape, second.shape) == ((4, MB // 4), (63 * MB,)), "the tensors that layers hold"
    assert not first.any()
    assert not second.any()
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert worker.load(b)["resident"] == ["b"]
    worker._switch("b")
    assert value_of(worker.model) == value_of(Model(b, packing=False))
    assert "error" not in worker.coe_wake(), "awake it changes nothing"
    first.fill_(1)
    worker.coe_wake()
    assert first.all()
