"""Files read into shared memory: whole, checked, from disks that refuse, fail, stutter or lie."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experts.checkpoints.hashing import PIECE_BYTES, hashes
from experts.errors import LoadFailed
from memory_tiers.driver.page_cache import PageCache, forget
from memory_tiers.driver.staging import DISK, READERS, Disk, Staged, stage

SIZE = 2 * PIECE_BYTES + 12_345
"""Ends within a piece, within a page, and within a block."""


def never() -> bool:
    return False


def is_direct(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


class Recorded(Disk):
    """Remembers how it was read, and lets a test answer first."""

    def __init__(self, before: Callable[[int, memoryview, int], int | None] = lambda *read: None) -> None:
        self.direct: list[bool] = []
        self._before = before

    def read(self, descriptor: int, buffer: memoryview, position: int) -> int:
        self.direct.append(is_direct(descriptor))
        answer = self._before(descriptor, buffer, position)
        return super().read(descriptor, buffer, position) if answer is None else answer


class WithoutDirectReads(Recorded):
    def open(self, path: Path, flags: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return super().open(path, flags)


@pytest.fixture
def file(tmp_path: Path) -> Staged:
    """A file on the disk of the tests, out of the page cache."""
    source = tmp_path / "model.safetensors"
    source.write_bytes(os.urandom(SIZE))
    forget(source)
    return Staged(source, tmp_path / "copy", SIZE, hashes(source).checksum)


def is_whole(file: Staged) -> bool:
    return file.target.read_bytes() == file.source.read_bytes()


def read_all(file: Staged) -> None:
    file.source.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, SIZE])
def test_a_copy_is_the_file_whatever_its_length(tmp_path: Path, size: int) -> None:
    source = tmp_path / "model.safetensors"
    source.write_bytes(os.urandom(size))
    for checksum in (hashes(source).checksum, None):
        forget(source)
        file = Staged(source, tmp_path / f"copy {checksum}", size, checksum)
        stage([file], never, DISK)
        assert is_whole(file)
        assert file.target.stat().st_mode & 0o777 == 0o600


def test_several_files_are_copied_side_by_side(tmp_path: Path) -> None:
    files = []
    for number, size in enumerate((SIZE, 10, 3 * PIECE_BYTES)):
        source = tmp_path / str(number)
        source.write_bytes(os.urandom(size))
        files.append(Staged(source, tmp_path / f"copy {number}", size, hashes(source).checksum))
    stage(files, never, DISK)
    assert all(is_whole(file) for file in files)


def test_a_file_that_is_not_in_the_page_cache_is_read_around_it(file: Staged) -> None:
    if forget(file.source):
        pytest.skip("the tests' folder is in memory")
    disk = Recorded()
    stage([file], never, disk)
    assert set(disk.direct) == {True}
    with file.source.open("rb") as opened:
        assert PageCache(opened.fileno()).bytes() == 0
    assert is_whole(file)


def test_a_file_in_the_page_cache_is_taken_from_there(file: Staged) -> None:
    read_all(file)
    disk = Recorded()
    stage([file], never, disk)
    assert is_whole(file)
    assert set(disk.direct) == {False}


def test_a_file_system_that_opens_no_file_for_direct_reads_is_read_otherwise(file: Staged) -> None:
    disk = WithoutDirectReads()
    stage([file], never, disk)
    assert is_whole(file)
    assert set(disk.direct) == {False}


def test_a_file_system_that_refuses_the_direct_read_itself_is_read_otherwise(file: Staged) -> None:
    def refuse(descriptor: int, buffer: memoryview, position: int) -> None:
        if is_direct(descriptor):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    stage([file], never, Recorded(refuse))
    assert is_whole(file)


def test_files_of_a_memory_file_system_are_copied_too(file: Staged) -> None:
    source = Path("/dev/shm") / f"coe-test-{os.getpid()}"
    source.write_bytes(file.source.read_bytes())
    try:
        stage([replace(file, source=source)], never, DISK)
        assert is_whole(file)
    finally:
        source.unlink()


def test_reads_that_give_less_than_asked_are_continued(file: Staged) -> None:
    stutter = Recorded(lambda descriptor, buffer, position: os.preadv(
        descriptor, [buffer[: min(len(buffer), 8192)]], position))  # fmt: skip
    odd = WithoutDirectReads(lambda descriptor, buffer, position: os.preadv(
        descriptor, [buffer[: min(len(buffer), 99_999)]], position))  # fmt: skip
    for number, disk in enumerate((stutter, odd)):
        forget(file.source)
        again = replace(file, target=file.target.with_name(f"copy {number}"))
        stage([again], never, disk)
        assert is_whole(again)
        assert len(disk.direct) > 3


def test_a_read_error_names_the_file(file: Staged) -> None:
    def fail(descriptor: int, buffer: memoryview, position: int) -> None:
        if position >= PIECE_BYTES:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(LoadFailed, match=r"model.safetensors: cannot be read: Input/output error"):
        stage([file], never, Recorded(fail))


def test_every_reader_failing_at_once_ends_the_load(tmp_path: Path, file: Staged) -> None:
    together = threading.Barrier(READERS)

    def fail(descriptor: int, buffer: memoryview, position: int) -> None:
        together.wait(timeout=60)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with file.source.open("r+b") as grown:
        grown.truncate(3 * READERS * PIECE_BYTES)
    with pytest.raises(LoadFailed, match="Input/output error"):
        stage([replace(file, size=READERS * PIECE_BYTES)], never, Recorded(fail))


def test_a_file_without_permission_is_named(file: Staged) -> None:
    class Closed(Disk):
        def open(self, path: Path, flags: int) -> int:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with pytest.raises(LoadFailed, match=r"model.safetensors: cannot be read: Permission denied"):
        stage([file], never, Closed())


def test_a_file_that_becomes_shorter_while_it_is_read_is_named(file: Staged) -> None:
    os.truncate(file.source, SIZE - 1)
    with pytest.raises(LoadFailed, match=r"model.safetensors became shorter while it was read"):
        stage([file], never, DISK)


def test_one_bit_that_differs_is_noticed_and_the_file_named(file: Staged) -> None:
    def flip(descriptor: int, buffer: memoryview, position: int) -> int:
        read = os.preadv(descriptor, [buffer], position)
        if position == PIECE_BYTES:
            buffer[77] ^= 1
        return read

    with pytest.raises(LoadFailed, match=r"model.safetensors is not the file .* run: coe experts verify"):
        stage([file], never, Recorded(flip))
    unchecked = replace(file, target=file.target.with_name("unchecked"), checksum=None)
    stage([unchecked], never, Recorded(flip))
    assert not is_whole(unchecked)


def test_a_load_that_is_stopped_reads_no_further(file: Staged) -> None:
    stopped = threading.Event()

    def stop(descriptor: int, buffer: memoryview, position: int) -> None:
        stopped.set()

    many = replace(file, size=100 * PIECE_BYTES, checksum=None)
    os.truncate(file.source, many.size)
    disk = Recorded(stop)
    with pytest.raises(LoadFailed, match="closing"):
        stage([many], stopped.is_set, disk)
    assert len(disk.direct) <= READERS


def test_a_target_without_room_is_the_targets_error(file: Staged) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        stage([replace(file, target=file.target / "nowhere" / "copy")], never, DISK)


def test_the_page_cache_tells_what_it_holds(file: Staged) -> None:
    read_all(file)
    with file.source.open("rb") as opened:
        cache = PageCache(opened.fileno())
        assert cache.holds(0, SIZE)
        assert cache.holds(PIECE_BYTES, SIZE - PIECE_BYTES)
        assert cache.bytes() >= SIZE
        assert not cache.holds(0, SIZE + 1)


def test_an_empty_file_is_nowhere(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as opened:
        cache = PageCache(opened.fileno())
        assert cache.bytes() == 0
        assert not cache.holds(0, 1)
