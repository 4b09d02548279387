"""Host copies in a private folder: whole or not at all, and gone afterwards."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from experts.checkpoints.hashing import PIECE_BYTES, hashes
from experts.errors import LoadFailed
from experts.spec import Expert
from memory_tiers.driver.host_store import PREFIX, HostStore
from memory_tiers.driver.staging import Disk
from memory_tiers.errors import HostFull, HostUnavailable


def a_checkpoint(folder: Path, *, size: int = 1000) -> Expert:
    folder.mkdir(parents=True)
    (folder / "model-00001.safetensors").write_bytes(os.urandom(size))
    (folder / "model-00002.safetensors").write_bytes(os.urandom(10))
    (folder / "config.json").write_text("{}")
    return Expert(folder.name, "f", folder, size + 10, 0, "f", "")


def as_it_is(expert: Expert) -> Expert:
    """The expert as if it had been prepared with the files it has now."""
    return replace(expert, weights_bytes=sum(f.stat().st_size for f in expert.folder.glob("*.safetensors")))


def a_store(root: Path) -> HostStore:
    store = HostStore(root)
    store.open()
    return store


def test_a_copy_is_a_folder_like_the_checkpoint(tmp_path: Path) -> None:
    expert = a_checkpoint(tmp_path / "a")
    store = a_store(tmp_path)
    loaded = store.load(expert)
    copy = store.path("a")
    assert loaded.bytes == 1010
    for name in ("model-00001.safetensors", "model-00002.safetensors"):
        assert (copy / name).read_bytes() == (expert.folder / name).read_bytes()
        assert not (copy / name).is_symlink()
    assert (copy / "config.json").resolve() == expert.folder / "config.json"
    store.close()


def test_files_of_several_chunks_are_put_together_in_order(tmp_path: Path) -> None:
    expert = a_checkpoint(tmp_path / "a")
    with (expert.folder / "model-00001.safetensors").open("r+b") as file:
        for place in (0, PIECE_BYTES - 4, PIECE_BYTES + 5):
            file.seek(place)
            file.write(f"at {place}".encode())
    store = a_store(tmp_path)
    store.load(as_it_is(expert))
    copied = (store.path("a") / "model-00001.safetensors").read_bytes()
    assert copied == (expert.folder / "model-00001.safetensors").read_bytes()
    dates = [folder.stat().st_mtime_ns for folder in (store.path("a").iterdir())]
    assert dates == [(expert.folder / file.name).stat().st_mtime_ns for file in store.path("a").iterdir()]
    store.close()


def test_the_folder_is_private(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    assert store.folder.stat().st_mode & 0o777 == 0o700
    store.close()


def test_dropping_gives_back_the_copy_and_ignores_unknown_names(tmp_path: Path) -> None:
    expert = a_checkpoint(tmp_path / "a")
    store = a_store(tmp_path)
    store.load(expert)
    store.drop("a")
    store.drop("nobody")
    assert list(store.folder.iterdir()) == []
    store.load(expert)
    store.close()


def test_a_name_with_slashes_stays_inside_the_folder(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    assert store.path("../Qwen/Qwen2").parent == store.folder
    store.close()


def test_closing_removes_everything_and_may_be_repeated(tmp_path: Path) -> None:
    expert = a_checkpoint(tmp_path / "a")
    store = a_store(tmp_path)
    store.load(expert)
    folder = store.folder
    store.close()
    store.close()
    assert not folder.exists()
    assert expert.folder.exists(), "links are removed, not what they point to"
    assert (expert.folder / "config.json").exists()
    with pytest.raises(LoadFailed, match="closed"):
        store.load(expert)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from memory_tiers.driver.host_store import HostStore;"
        "HostStore(pathlib.Path(sys.argv[1])).open(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    living = a_store(tmp_path)
    assert not left.exists()
    other = a_store(tmp_path)
    assert living.folder.exists()
    other.close()
    living.close()


def test_no_room_is_a_clear_failure_that_leaves_nothing(tmp_path: Path) -> None:
    expert = a_checkpoint(tmp_path / "a")
    with (expert.folder / "model-00001.safetensors").open("r+b") as file:
        file.truncate(2**42)
    expert, store = as_it_is(expert), a_store(tmp_path)
    with pytest.raises(HostFull, match=r"needs 4,398,046,511,114 bytes .* room for .*: lower tiers.host"):
        store.load(expert)
    assert list(store.folder.iterdir()) == []
    store.close()


def test_an_unreadable_file_is_a_failed_load_that_leaves_nothing(tmp_path: Path) -> None:
    expert = a_checkpoint(tmp_path / "a")
    (expert.folder / "model-00003.safetensors").symlink_to(tmp_path / "nowhere")
    store = a_store(tmp_path)
    with pytest.raises(LoadFailed, match="model-00003"):
        store.load(expert)
    assert list(store.folder.iterdir()) == []
    store.close()


def test_a_copy_that_is_not_what_was_prepared_is_a_failed_load_that_leaves_nothing(tmp_path: Path) -> None:
    expert = a_checkpoint(tmp_path / "source" / "a")
    file = expert.folder / "model-00001.safetensors"
    expert = replace(expert, checksums={file.name: hashes(file).checksum})
    file.write_bytes(os.urandom(1000))
    store = a_store(tmp_path)
    with pytest.raises(LoadFailed, match=r"model-00001.safetensors is not the file .* run: coe experts"):
        store.load(expert)
    assert list(store.folder.iterdir()) == []
    store.close()


def test_a_disk_that_fails_is_a_failed_load_that_leaves_nothing(tmp_path: Path) -> None:
    class Failing(Disk):
        def read(self, descriptor: int, buffer: memoryview, position: int) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    expert = a_checkpoint(tmp_path / "source" / "a")
    store = HostStore(tmp_path, Failing())
    with pytest.raises(LoadFailed, match=r"model-0000\d.safetensors: cannot be read: Input/output error"):
        store.load(expert)
    assert list(store.folder.iterdir()) == []
    store.close()


def test_a_missing_checkpoint_is_a_failed_load(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    with pytest.raises(LoadFailed, match="No such file"):
        store.load(Expert("a", "f", tmp_path / "a", 1, 0, "f", ""))
    store.close()


def test_several_experts_are_loaded_at_once(tmp_path: Path) -> None:
    experts = [a_checkpoint(tmp_path / name, size=100_000) for name in "abcd"]
    store = a_store(tmp_path)
    threads = [threading.Thread(target=store.load, args=(expert,)) for expert in experts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expert in experts:
        copied = store.path(expert.name) / "model-00001.safetensors"
        assert copied.read_bytes() == (expert.folder / "model-00001.safetensors").read_bytes()
    store.close()


def test_closing_during_loads_leaves_nothing(tmp_path: Path) -> None:
    expert = a_checkpoint(tmp_path / "a", size=1_000_000)
    for _ in range(20):
        store = a_store(tmp_path)

        def load(store: HostStore = store) -> None:
            with contextlib.suppress(LoadFailed):
                store.load(expert)

        thread = threading.Thread(target=load)
        thread.start()
        store.close()
        thread.join()
        assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_a_root_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(HostUnavailable, match="no host tier in"):
        HostStore(tmp_path / "nowhere").open()


def test_a_file_that_became_shorter_is_not_copied_and_one_mended_is(tmp_path: Path) -> None:
    expert, store = a_checkpoint(tmp_path / "source" / "a"), a_store(tmp_path)
    file = expert.folder / "model-00001.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(LoadFailed, match="1,009 bytes, not the 1,010"):
        store.load(expert)
    assert not store.path("a").exists()
    file.write_bytes(whole)
    assert store.load(expert).bytes == 1010
    store.close()


def test_a_store_that_was_closed_is_not_opened_any_more(tmp_path: Path) -> None:
    """A start that is given up closes it while a thread may be about to open it."""
    store = HostStore(tmp_path)
    store.close()
    with pytest.raises(HostUnavailable, match="closed"):
        store.open()
    assert [*tmp_path.iterdir()] == []
