"""A file is replaced whole, and what is no file is left what it is."""

import os
import stat
import threading
from pathlib import Path

import pytest

from router.atomic_file import replace_file


def test_a_file_is_replaced_with_its_rights_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"first", b"second"):
        replace_file(file, content, mode=0o640)
        assert file.read_bytes() == content
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [*tmp_path.iterdir()] == [file]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    replace_file(pipe, b"content", mode=0o600)
    reader.join()
    assert heard == [b"content"]
    assert pipe.is_fifo()


def test_a_folder_is_refused_and_stays(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path, b"content", mode=0o600)
    assert [*tmp_path.iterdir()] == []
