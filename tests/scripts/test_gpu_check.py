"""The checks of a card, as far as they run on CPU; and each of them finds what is wrong."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from experts.errors import EngineStartFailed
from experts.inside_vllm.weights.images import CopyImages, Image, PointerImages
from tests.conftest import NIGHT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from experts.inside_vllm.weights.upload import Upload
    from scripts.gpu_check import __main__ as check
    from scripts.gpu_check.__main__ import main
    from scripts.gpu_check.checkpoints import TINY, write_random

SMALL = ["--size", "4MB"]


def test_all_is_right_on_cpu_and_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["device"], found["right"]) == ("CPU", True)
    names = [check["check"] for check in found["checks"]]
    assert names == ["switch by copy", "switch by pointers", "image to the device", "refused registration"]
    assert all(check["figures"] or check["skipped"] for check in found["checks"])
    shown = capsys.readouterr().out
    assert "| switch by pointers | a flip |" in shown
    assert "not run: there is no CUDA driver here" in shown


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (CopyImages, "WRONG switch by copy: the model's weights are not those that were copied"),
        (PointerImages, "WRONG switch by pointers: the two experts compute the same"),
    ],
)
def test_a_switch_that_does_nothing_is_found(
    kind: type, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kind, "activate", lambda self, name: None)
    assert main(SMALL) == 1
    assert said in capsys.readouterr().out


def test_an_upload_that_loses_bytes_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Upload.image

    def damaged(upload: Upload) -> Image:
        image = whole(upload)
        image.data[-1].zero_()
        return image

    monkeypatch.setattr(Upload, "image", damaged)
    assert main(SMALL) == 1
    assert "WRONG image to the device: what was uploaded alone is not" in capsys.readouterr().out


def test_a_check_that_cannot_be_made_is_wrong_and_the_others_are_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty_like", full)
    assert main(SMALL) == 1
    shown = capsys.readouterr().out
    assert "WRONG switch by copy: OutOfMemoryError: CUDA out of memory" in shown
    assert "| switch by pointers | a flip |" in shown


def test_random_checkpoints_differ_by_their_seed_alone(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    first, again, other = (write_random(tmp_path / name, TINY, seed, cpu) for name, seed in NAMED.items())
    file = "model-00001.safetensors"
    assert (first / file).read_bytes() == (again / file).read_bytes() != (other / file).read_bytes()
    assert (first / "config.json").read_bytes() == (other / "config.json").read_bytes()


NAMED = {"a": 1, "again": 1, "b": 2}


def test_an_engine_that_does_not_start_is_wrong_and_the_others_are_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(name: str, *_: object) -> None:
        raise EngineStartFailed(f"no engine for {name}")

    monkeypatch.setattr(check, "check_engines", fails)
    assert main([*SMALL, "--vllm", "--store", "nowhere"]) == 1
    shown = capsys.readouterr().out
    for name in ("random experts", "embedded experts"):
        assert f"WRONG {name}: EngineStartFailed: no engine for {name}" in shown


@pytest.mark.engine
def test_two_experts_in_one_engine_are_right_and_measured_on_cpu(store: Path, tmp_path: Path) -> None:
    report = tmp_path / "found.json"
    given = ["--store", str(store)] if NIGHT else []
    assert main([*SMALL, "--vllm", *given, "--json", str(report)]) == 0
    *_, random, embedded = json.loads(report.read_text())["checks"]
    assert (random["check"], embedded["check"]) == ("random experts", "embedded experts")
    assert bool(embedded["skipped"]) != NIGHT
    for each in (random, embedded) if NIGHT else (random,):
        figures = {figure["name"]: figure["value"] for figure in each["figures"]}
        assert figures["switches"] >= 2
        assert figures["a switch as reported"] > 0
        assert figures["load from its image"] > 0
