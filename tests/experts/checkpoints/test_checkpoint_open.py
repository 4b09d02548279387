"""What is read from a prepared folder, what a verification notices, and who can share an engine."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from experts.checkpoints.manifest import read_manifest, write_manifest
from experts.checkpoints.prepare import prepare
from experts.checkpoints.prepared import check_families, open_expert, verify
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable
from experts.progress import Stage
from experts.spec import CheckpointSource, Expert, ExpertConfig, Generation, GenerationConfig

CONFIG = {"model_type": "llama", "hidden_size": 3, "rope_theta": 10000.0, "eos_token_id": 2}


def make(
    tmp_path: Path,
    name: str = "tiny",
    *,
    config: dict[str, Any] | None = None,
    shape: tuple[int, int] = (4, 3),
    dtype: str = "float32",
    extra_tensor: str | None = None,
    tokenizer: dict[str, Any] | None = None,
    files: dict[str, str] | None = None,
    **settings: Any,
) -> tuple[Expert, ExpertConfig]:
    """An expert prepared from a small folder."""
    source = tmp_path / f"{name}-source"
    source.mkdir()
    tensor_names = ["layer.weight"] if extra_tensor is None else ["layer.weight", extra_tensor]
    tensors = {tensor: np.ones(shape, dtype=dtype) for tensor in tensor_names}
    save_file(tensors, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    (source / "tokenizer.json").write_text(json.dumps(tokenizer or {"model": {"vocab": {"a": 0}}}))
    for file, content in ({"chat_template.jinja": "{{ messages }}"} | (files or {})).items():
        (source / file).write_text(content)
    expert = ExpertConfig(family="tiny", checkpoint=CheckpointSource(folder=source), **settings)
    return prepare(name, expert, tmp_path / "store"), expert


# Opening


def test_an_unprepared_expert_says_how_to_prepare_it(tmp_path: Path) -> None:
    config = ExpertConfig(family="tiny", checkpoint=CheckpointSource(embedded="base"))
    with pytest.raises(CheckpointMissing, match=r"expert tiny is not prepared .*; run: coe experts prepare"):
        open_expert("tiny", config, tmp_path)


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    _, config = make(tmp_path)
    (tmp_path / "tiny-source" / "tokenizer.json").unlink()
    with pytest.raises(
        CheckpointMissing, match=r"tokenizer.json: the file is gone; run: coe experts prepare"
    ):
        open_expert("tiny", config, tmp_path / "store")


def test_a_file_that_was_cut_is_named(tmp_path: Path) -> None:
    _, config = make(tmp_path)
    os.truncate(tmp_path / "tiny-source" / "model.safetensors", 60)
    with pytest.raises(CheckpointUnreadable, match=r"model.safetensors: 60 bytes, not"):
        open_expert("tiny", config, tmp_path / "store")


def test_a_manifest_of_another_version_is_not_trusted(tmp_path: Path) -> None:
    expert, config = make(tmp_path)
    (expert.folder / "coe.json").write_text('{"version": 2}')
    with pytest.raises(CheckpointUnreadable, match="not a manifest of this version"):
        open_expert("tiny", config, tmp_path / "store")
    assert prepare("tiny", config, tmp_path / "store") == expert


def test_the_configured_parameter_count_wins(tmp_path: Path) -> None:
    expert, _ = make(tmp_path, parameters_billion=7.62)
    assert expert.parameters == 7_620_000_000


def test_without_settings_vllm_decides_how_to_sample(tmp_path: Path) -> None:
    expert, _ = make(tmp_path)
    assert expert.generation == Generation(stop_token_ids=(2,))


def test_the_checkpoint_s_sampling_defaults_are_read(tmp_path: Path) -> None:
    saved = {"eos_token_id": [2, 7], "temperature": 0.7, "top_p": 0.8, "top_k": 0, "repetition_penalty": 1.05}
    expert, _ = make(tmp_path, files={"generation_config.json": json.dumps(saved)})
    assert expert.generation == Generation((2, 7), 0.7, 0.8, -1, 1.05)


def test_the_configuration_s_sampling_defaults_win(tmp_path: Path) -> None:
    saved = json.dumps({"eos_token_id": 2, "temperature": 0.7, "top_p": 0.8})
    expert, _ = make(
        tmp_path,
        files={"generation_config.json": saved},
        generation=GenerationConfig(temperature=0, max_tokens=100),
    )
    assert expert.generation == Generation((2,), temperature=0, top_p=0.8, max_tokens=100)


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"temperature": "hot"}, "temperature: Input should be a valid number"),
        ({"top_p": 3}, "top_p: Input should be less than or equal to 1"),
        ({"eos_token_id": ["end"]}, "invalid literal"),
    ],
)
def test_malformed_sampling_defaults_name_the_file_and_the_field(
    tmp_path: Path, saved: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointUnreadable, match=rf"generation_config.json: {said}"):
        make(tmp_path, files={"generation_config.json": json.dumps(saved)})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    expert, config = make(tmp_path)
    (expert.folder / "tokenizer.json").unlink()
    (expert.folder / "tokenizer.json").symlink_to("tokenizer.json")
    with pytest.raises(CheckpointUnreadable, match=r"tokenizer.json: cannot be read: Too many levels"):
        open_expert("tiny", config, tmp_path / "store")


def test_a_chat_template_in_the_tokenizer_s_configuration_is_found(tmp_path: Path) -> None:
    saved = {"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}
    expert, config = make(tmp_path, files={"tokenizer_config.json": json.dumps(saved)})
    assert expert.chat_template == "{{ messages }}"
    (tmp_path / "tiny-source" / "chat_template.jinja").unlink()
    assert prepare("tiny", config, tmp_path / "store").chat_template == "d"


def test_a_configured_chat_template_wins(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("own")
    expert, _ = make(tmp_path, chat_template=tmp_path / "own.jinja")
    assert expert.chat_template == "own"


def test_a_configured_chat_template_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match=r"absent.jinja: no such chat template"):
        make(tmp_path, chat_template=tmp_path / "absent.jinja")


def test_a_checkpoint_without_chat_template_asks_for_one(tmp_path: Path) -> None:
    _, config = make(tmp_path)
    (tmp_path / "tiny-source" / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointMissing, match="set the expert's chat_template"):
        prepare("tiny", config, tmp_path / "store")


# Verifying


def test_an_intact_expert_passes_and_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[tuple[Stage, int, int]] = []
    make(tmp_path)
    verify("tiny", tmp_path / "store", lambda stage, done, total: seen.append((stage, done, total)))
    assert seen[-1][0] == "hash"
    assert seen[-1][1] == seen[-1][2]


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "tiny-source" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointMismatch, match=r"model.safetensors: sha256 is [0-9a-f]{64}, not"):
        verify("tiny", tmp_path / "store")


def test_a_checksum_that_is_not_the_files_is_noticed(tmp_path: Path) -> None:
    expert, _ = make(tmp_path)
    manifest = read_manifest(expert.folder)
    record = manifest.files["model.safetensors"].model_copy(update={"checksum": "0" * 16})
    files = {**manifest.files, "model.safetensors": record}
    write_manifest(expert.folder, manifest.model_copy(update={"files": files}))
    with pytest.raises(CheckpointMismatch, match=r"model.safetensors: the checksum in coe.json is not"):
        verify("tiny", tmp_path / "store")


def test_truncated_weights_are_found(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "tiny-source" / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CheckpointUnreadable, match=r"model.safetensors: not a whole .*not fully covered"):
        verify("tiny", tmp_path / "store")


# Families


def test_fine_tunes_of_one_model_are_a_family(tmp_path: Path) -> None:
    one, _ = make(tmp_path, "one")
    saved_by_another_tool = {"transformers_version": "9", "torch_dtype": "float32", "eos_token_id": 7}
    two, _ = make(
        tmp_path,
        "two",
        config=saved_by_another_tool,
        tokenizer={"padding": {"length": 3}, "model": {"vocab": {"a": 0}}},
    )
    check_families([one, two])
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": (5, 3)}, r"tensor layer.weight is F32 \[5, 3\], not F32 \[4, 3\]"),
        ({"dtype": "float16"}, r"tensor layer.weight is F16 \[4, 3\], not F32 \[4, 3\]"),
        ({"extra_tensor": "lm_head.weight"}, "tensor lm_head.weight is too many"),
        ({"config": {"rope_theta": 5.0}}, "rope_theta is 5.0, not 10000.0"),
        ({"tokenizer": {"model": {"vocab": {"b": 0}}}}, "tokenizer.json differs"),
    ],
)
def test_what_keeps_experts_apart_is_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    one, _ = make(tmp_path, "one")
    two, _ = make(tmp_path, "two", **change)
    with pytest.raises(
        CheckpointMismatch, match=rf"expert two cannot be in family 'tiny' with one: .*{said}"
    ):
        check_families([one, two])


def test_experts_of_different_families_may_differ(tmp_path: Path) -> None:
    one, _ = make(tmp_path, "one")
    two, _ = make(tmp_path, "two", shape=(5, 3))
    moved = ExpertConfig(family="other", checkpoint=CheckpointSource(folder=tmp_path / "two-source"))
    check_families([one, open_expert("two", moved, tmp_path / "store")])
    assert two.fingerprint != one.fingerprint
