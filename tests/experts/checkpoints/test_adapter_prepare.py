"""Preparation of LoRA experts: adapters beside a base that is prepared once."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experts.checkpoints.prepare import prepare
from experts.checkpoints.prepared import check_families, open_expert, verify
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable
from experts.spec import CheckpointSource, Expert, ExpertConfig

MODULE = "model.layers.0.q_proj"
A, B = (f"base_model.model.{MODULE}.lora_{which}.weight" for which in "AB")


class World:
    """A base of 4 x 3 weights, and a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.base = CheckpointSource(folder=self.a_base("base"))

    def a_base(self, name: str, shape: tuple[int, int] = (4, 3)) -> Path:
        folder = self.root / name
        folder.mkdir()
        save_file({f"{MODULE}.weight": np.ones(shape, np.float32)}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2}))
        (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.5}))
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
        (folder / "chat_template.jinja").write_text("the base's")
        return folder

    def an_adapter(self, name: str, files: dict[str, Any] | None = None, a: Any = None) -> CheckpointSource:
        folder = self.root / f"{name}-source"
        folder.mkdir()
        a = np.ones((2, 3), np.float32) if a is None else a
        save_file({A: a, B: np.ones((4, 2), np.float32)}, folder / "adapter_model.safetensors")
        config = {"adapter_config.json": {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}}
        for file, content in (config | (files or {})).items():
            (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
        return CheckpointSource(folder=folder)

    def prepare(self, name: str, checkpoint: CheckpointSource) -> Expert:
        return prepare(name, configured(checkpoint), self.store, base=self.base)

    def open(self, name: str, checkpoint: CheckpointSource) -> Expert:
        return open_expert(name, configured(checkpoint), self.store, self.base)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def configured(checkpoint: CheckpointSource) -> ExpertConfig:
    return ExpertConfig(family="tiny", checkpoint=checkpoint)


def test_an_adapter_is_referenced_beside_what_its_base_has(world: World) -> None:
    expert = world.prepare("law", world.an_adapter("law", {"optimizer.json": {}, "README.md": "for people"}))
    assert {file.name for file in expert.folder.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "coe.json",
        "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja",
    }  # fmt: skip
    assert (expert.folder / "config.json").readlink() == Path("../tiny.base/config.json")
    assert expert.weights_bytes == (expert.folder / "adapter_model.safetensors").stat().st_size
    assert expert.parameters == 12 + 14
    assert (expert.chat_template, expert.generation.temperature) == ("the base's", 0.5)
    assert expert.generation.stop_token_ids == (2,)
    assert (world.store / "tiny.base" / "model.safetensors").is_file()


def test_the_base_itself_is_an_expert_without_weights(world: World) -> None:
    general = world.prepare("general", world.base)
    law = world.prepare("law", world.an_adapter("law"))
    assert (general.weights_bytes, general.parameters) == (0, 12)
    assert general.chat_template == "the base's"
    check_families([general, law])


def test_a_second_preparation_does_no_work(world: World) -> None:
    checkpoint = world.an_adapter("law")
    first = world.prepare("law", checkpoint)
    inode = first.folder.stat().st_ino
    assert world.prepare("law", checkpoint) == first
    assert first.folder.stat().st_ino == inode


def test_the_store_can_be_moved(world: World) -> None:
    checkpoint = world.an_adapter("law")
    world.prepare("law", checkpoint)
    world.store = world.store.rename(world.root / "moved")
    assert world.open("law", checkpoint).chat_template == "the base's"


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template.jinja": "its own"},
        {"chat_template.json": {"chat_template": "its own"}},
        {"tokenizer_config.json": {"chat_template": "its own"}},
    ],
    ids=lambda files: next(iter(files)),
)
def test_the_adapters_own_template_and_defaults_come_first(world: World, files: dict[str, Any]) -> None:
    checkpoint = world.an_adapter("law", files | {"generation_config.json": {"temperature": 0.1}})
    expert = world.prepare("law", checkpoint)
    assert (expert.chat_template, expert.generation.temperature) == ("its own", 0.1)


def test_a_tokenizer_configuration_without_a_template_does_not_hide_the_bases(world: World) -> None:
    checkpoint = world.an_adapter("law", {"tokenizer_config.json": {"padding_side": "left"}})
    assert world.prepare("law", checkpoint).chat_template == "the base's"


def test_an_adapter_of_another_base_is_refused_and_nothing_is_left(world: World) -> None:
    checkpoint = world.an_adapter("law", a=np.ones((2, 5), np.float32))
    with pytest.raises(CheckpointMismatch, match=rf"{A} is \[2, 5\], .* made for another base"):
        world.prepare("law", checkpoint)
    assert not (world.store / "law").exists()


def test_a_value_that_is_no_number_is_refused(world: World) -> None:
    checkpoint = world.an_adapter("law", a=np.full((2, 3), np.nan, np.float32))
    with pytest.raises(CheckpointUnreadable, match=rf"{A} has NaN"):
        world.prepare("law", checkpoint)


def test_a_tokenizer_with_other_tokens_is_refused(world: World) -> None:
    checkpoint = world.an_adapter("law", {"tokenizer.json": {"model": {"vocab": {"b": 0}}}})
    with pytest.raises(CheckpointMismatch, match="adds tokens"):
        world.prepare("law", checkpoint)


def test_a_checkpoint_of_full_weights_is_no_adapter(world: World) -> None:
    with pytest.raises(CheckpointMissing, match=r"adapter_config.json: no such file"):
        world.prepare("law", CheckpointSource(folder=world.a_base("full")))


def test_another_base_means_another_preparation(world: World) -> None:
    checkpoint = world.an_adapter("law")
    world.prepare("law", checkpoint)
    world.base = CheckpointSource(folder=world.a_base("other"))
    with pytest.raises(CheckpointMissing, match="another source than the configuration names"):
        world.open("law", checkpoint)
    world.prepare("law", checkpoint)
    assert world.open("law", checkpoint).parameters == 26


def test_a_base_that_changed_under_its_adapters_is_noticed(world: World) -> None:
    law, base = world.an_adapter("law"), world.base.folder
    world.prepare("law", law)
    assert base is not None
    shutil.rmtree(base)
    world.a_base("base", shape=(5, 3))
    world.prepare("general", world.base)
    with pytest.raises(CheckpointMismatch, match="beside another base than is there now; run: coe experts"):
        world.open("law", law)
    with pytest.raises(CheckpointMismatch, match="made for another base"):
        world.prepare("law", law)


def test_an_embedded_adapter_needs_the_embedded_base(world: World) -> None:
    with pytest.raises(CheckpointMismatch, match=r"set the family's base to \{embedded: base\}"):
        world.prepare("law", CheckpointSource(embedded="law"))


def test_verification_reads_the_adapter_and_compares_it_with_its_base(world: World) -> None:
    world.prepare("general", world.base)
    expert = world.prepare("law", world.an_adapter("law"))
    base = world.store / "tiny.base"
    for name in ("law", "general"):
        verify(name, world.store, base=base)
    weights = expert.folder / "adapter_model.safetensors"
    dates = weights.stat()
    tensors = load_file(weights)
    tensors[B][0, 0] = 7
    save_file(tensors, os.path.realpath(weights))
    os.utime(weights, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    with pytest.raises(CheckpointMismatch, match=r"adapter_model.safetensors: sha256 is"):
        verify("law", world.store, base=base)
