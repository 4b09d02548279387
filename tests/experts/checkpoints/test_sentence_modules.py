"""What Sentence Transformers keeps beside a model is prepared with it, and experts of a family share it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from experts.checkpoints.prepare import prepare
from experts.checkpoints.prepared import check_families, open_expert, verify
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable
from experts.spec import CheckpointSource, Expert, ExpertConfig
from memory_tiers.driver.host_store import HostStore

MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"path": "3_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def source(folder: Path, pooling: str = "mean", seed: int = 1) -> Path:
    """A checkpoint as repositories have it: without the folder of the normalization, which is empty."""
    for name in ("1_Pooling", "2_Dense", "onnx"):
        (folder / name).mkdir(parents=True)
    numbers = np.random.default_rng(seed).random((4, 3), dtype=np.float32)
    save_file({"layer.weight": numbers}, folder / "model.safetensors")
    save_file({"linear.weight": np.eye(3, dtype=np.float32)}, folder / "2_Dense" / "model.safetensors")
    save_file({"layer.weight": numbers}, folder / "onnx" / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}_tokens": True}))
    return folder


def configured(folder: Path) -> ExpertConfig:
    return ExpertConfig(family="vectors", checkpoint=CheckpointSource(folder=folder))


def prepared(tmp_path: Path, name: str, pooling: str = "mean", seed: int = 1) -> Expert:
    config = configured(source(tmp_path / f"{name}-source", pooling, seed))
    return prepare(name, config, tmp_path / "store", task="embed")


def test_its_parts_are_prepared_and_checked_too(tmp_path: Path) -> None:
    expert = prepared(tmp_path, "e5")
    assert json.loads((expert.folder / "1_Pooling" / "config.json").read_text()) == {
        "pooling_mode_mean_tokens": True
    }
    assert not (expert.folder / "onnx").exists()
    assert expert.weights_bytes == (expert.folder / "model.safetensors").stat().st_size
    assert (expert.task, expert.chat_template, expert.canary) == ("embed", "", None)
    verify("e5", tmp_path / "store")
    before = expert.folder.stat().st_ino
    assert prepare("e5", configured(tmp_path / "e5-source"), tmp_path / "store", task="embed") == expert
    assert expert.folder.stat().st_ino == before
    (tmp_path / "e5-source" / "1_Pooling" / "config.json").write_text("{}                             ")
    with pytest.raises((CheckpointMismatch, CheckpointUnreadable), match=r"1_Pooling/config\.json"):
        verify("e5", tmp_path / "store")


def test_a_part_that_is_named_and_not_there_is_an_error(tmp_path: Path) -> None:
    folder = source(tmp_path / "source")
    (folder / "1_Pooling").rename(tmp_path / "elsewhere")
    with pytest.raises(
        CheckpointMissing, match=r"modules\.json names 1_Pooling, and there is no such folder; complete"
    ):
        prepare("e5", configured(folder), tmp_path / "store", task="embed")
    (tmp_path / "elsewhere").rename(folder / "1_Pooling")
    assert prepare("e5", configured(folder), tmp_path / "store", task="embed").parameters == 12


def test_modules_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    folder = source(tmp_path / "source")
    (folder / "modules.json").write_text('[{"type": "Pooling"}]')
    with pytest.raises(CheckpointUnreadable, match="cannot be read as a list of modules"):
        prepare("e5", configured(folder), tmp_path / "store", task="embed")


def test_experts_that_pool_in_other_ways_are_of_other_families(tmp_path: Path) -> None:
    one, same = prepared(tmp_path, "one"), prepared(tmp_path, "same", seed=2)
    check_families([one, same])
    with pytest.raises(
        CheckpointMismatch, match=r"with one: modules\.json, or a file that belongs to it, differs"
    ):
        check_families([one, prepared(tmp_path, "other", pooling="cls")])


def test_one_that_generates_needs_its_template(tmp_path: Path) -> None:
    prepared(tmp_path, "e5")
    with pytest.raises(CheckpointMissing, match="chat template"):
        open_expert("e5", configured(tmp_path / "e5-source"), tmp_path / "store")


def test_a_host_copy_has_the_parts(tmp_path: Path) -> None:
    host = HostStore(tmp_path)
    host.load(prepared(tmp_path, "e5"))
    try:
        assert (host.path("e5") / "1_Pooling" / "config.json").is_file()
        assert not (host.path("e5") / "model.safetensors").is_symlink()
    finally:
        host.close()
