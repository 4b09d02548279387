"""Every way an expert comes to the device, with a checkpoint that is read in two slices."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from experts.errors import CheckpointUnreadable
from experts.inside_vllm.weights.images import Image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from experts.inside_vllm.kernels.linear import Packed
    from experts.inside_vllm.weights.arrival import Arrival, Place
    from experts.inside_vllm.weights.loading import Loading
    from experts.inside_vllm.weights.pinning import PinnedFiles


class Checkpoint(Loading):
    def __init__(self, image: Image, fails: bool) -> None:
        self._whole = image
        self._fails = fails
        self.slices = 0
        self.closed = False

    def work(self, seconds: float) -> bool:
        if self._fails:
            raise CheckpointUnreadable("tensor x holds NaN")
        self.slices += 1
        return self.slices == 2

    def image(self) -> Image:
        return self._whole

    def close(self) -> None:
        self.closed = True


@dataclass
class Bench:
    place: Place
    weights: Image
    device: torch.device | None
    fails: bool = False
    read: list[Checkpoint] = field(default_factory=list)

    def load(self) -> Checkpoint:
        self.read.append(Checkpoint(self.weights, self.fails))
        return self.read[-1]

    def arrival(self, place: Place | None) -> Arrival:
        return Arrival("a", self.load, place, self.device, PinnedFiles())

    def bring(self, place: Place | None) -> Image:
        arrival = self.arrival(place)
        for _ in range(20):
            if arrival.work(1.0):
                image = arrival.image()
                arrival.close()
                return image
        raise AssertionError("not whole after 20 slices")

    def files(self) -> list[str]:
        return [file.name for file in self.place.file.parent.iterdir()]


@pytest.fixture(params=[None, torch.device("cpu")], ids=["mapped", "copied"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    kernels = (Packed.of(torch.randn(16, 8)),) if request.param is None else ()
    weights = Image((torch.randn(4, 4), torch.empty(0)), kernels)
    return Bench(Place(tmp_path / "image-0", "key"), weights, request.param)


def same(found: Image, wanted: Image) -> bool:
    x = torch.randn(2, 8)
    return all(torch.equal(one, other) for one, other in zip(found.data, wanted.data, strict=True)) and all(
        torch.equal(one(x, None, None), other(x, None, None))
        for one, other in zip(found.kernels, wanted.kernels, strict=True)
    )


def test_without_a_place_the_checkpoint_is_all(bench: Bench) -> None:
    assert same(bench.bring(None), bench.weights)
    assert [checkpoint.closed for checkpoint in bench.read] == [True]
    assert bench.files() == []


def test_the_first_time_leaves_an_image_and_the_second_reads_no_checkpoint(bench: Bench) -> None:
    first = bench.bring(bench.place)
    assert same(first, bench.weights)
    assert bench.files() == ["image-0"]
    if bench.device is None:
        assert first.data[0].data_ptr() != bench.weights.data[0].data_ptr(), (
            "the file's memory, not held twice"
        )
    assert same(bench.bring(bench.place), bench.weights)
    assert len(bench.read) == 1


def test_an_image_of_other_weights_is_replaced(bench: Bench) -> None:
    bench.bring(bench.place)
    bench.weights = Image((torch.ones(4, 4), torch.empty(0)), bench.weights.kernels)
    later = Place(bench.place.file, "other key")
    assert same(bench.bring(later), bench.weights)
    assert same(bench.bring(later), bench.weights)
    assert len(bench.read) == 2


def test_a_damaged_image_is_made_anew_from_the_checkpoint(bench: Bench) -> None:
    bench.bring(bench.place)
    damaged = bytearray(bench.place.file.read_bytes())
    damaged[4096] ^= 1
    bench.place.file.write_bytes(damaged)
    assert same(bench.bring(bench.place), bench.weights)
    assert len(bench.read) == 2
    assert same(bench.bring(bench.place), bench.weights)
    assert len(bench.read) == 2


def test_an_image_that_cannot_be_kept_is_no_failure(bench: Bench) -> None:
    nowhere = Place(bench.place.file.parent / "missing" / "image-0", "key")
    assert same(bench.bring(nowhere), bench.weights)
    out_of_reach = Image(bench.weights.data, (lambda x: x,))
    bench.weights = out_of_reach
    assert bench.bring(bench.place) is out_of_reach
    assert bench.files() == []


def test_a_bad_checkpoint_is_a_failure_and_leaves_nothing(bench: Bench) -> None:
    bench.fails = True
    arrival = bench.arrival(bench.place)
    with pytest.raises(CheckpointUnreadable, match="tensor x"):
        arrival.work(1.0)
    arrival.close()
    assert bench.read[0].closed
    assert bench.files() == []


def test_an_arrival_given_up_half_way_leaves_nothing(bench: Bench) -> None:
    arrival = bench.arrival(bench.place)
    assert not arrival.work(1.0)
    arrival.close()
    arrival.close()
    assert bench.read[0].closed
    assert bench.files() == []
