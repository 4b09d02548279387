"""A machine's folder is found again by a raylet that was started anew, and by no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.fleet.machine_folder import Raylet, began, own_folder


def running(pid: int, host: str = "10.0.0.2") -> Raylet:
    start = began(pid)
    assert start is not None
    return Raylet(host, pid, start)


@pytest.fixture
def ended() -> Raylet:
    """A raylet that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = running(process.pid)
    process.communicate()
    return found


def test_a_raylet_that_was_started_anew_takes_over_what_the_earlier_one_has_left(
    tmp_path: Path, ended: Raylet
) -> None:
    (own_folder(tmp_path / "fleet", "a" * 56, ended) / "node.json").write_text("of its node")
    here = running(os.getpid())
    folder = own_folder(tmp_path / "fleet", "b" * 56, here)
    assert (folder / "node.json").read_text() == "of its node"
    assert [*(tmp_path / "fleet").iterdir()] == [folder]
    assert own_folder(tmp_path / "fleet", "b" * 56, here) == folder, "its actor was started anew"


def test_a_folder_whose_raylet_runs_or_that_is_another_hosts_is_left_alone(
    tmp_path: Path, ended: Raylet
) -> None:
    other = own_folder(tmp_path, "a" * 56, running(os.getpid()))
    far = own_folder(tmp_path, "c" * 56, Raylet("10.0.0.3", ended.pid, ended.began))
    new = own_folder(tmp_path, "b" * 56, running(os.getppid()))
    assert sorted(tmp_path.iterdir()) == sorted([other, far, new])
