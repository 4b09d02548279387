"""A node's process is found again by whoever comes next, and is started anew only once it has ended."""

import os
import signal
import time
from pathlib import Path

import pytest

from server.config.settings import SettingsError
from server.fleet.cluster_file import ClusterFile
from server.fleet.node_process import NodeProcess


@pytest.fixture
def file(tmp_path: Path) -> ClusterFile:
    text = "config: own.yaml\nsecret_file: secret\nstate: state\nport: 0\nnode_port: 0\n"
    (tmp_path / "cluster.yaml").write_text(text)
    return ClusterFile.read(tmp_path / "cluster.yaml")


def test_paths_count_from_the_files_folder(file: ClusterFile, tmp_path: Path) -> None:
    assert (file.config, file.secret_file) == (tmp_path / "own.yaml", tmp_path / "secret")
    assert file.state == tmp_path / "state"


@pytest.mark.parametrize(
    ("text", "said"),
    [("port: 1\n", "config: Field required"), ("config: [", "cannot be read"), (None, "cannot be read")],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        ClusterFile.read(tmp_path / "cluster.yaml")


def test_a_process_is_adopted_and_replaced_once_it_has_ended(
    file: ClusterFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n")
    sleeper.chmod(0o755)
    first = NodeProcess(file, "127.0.0.1", tmp_path / "node")
    monkeypatch.setattr("server.fleet.node_process._command", lambda *given: [str(sleeper)])
    started = first.ensure([])
    assert started is not None
    again = NodeProcess(file, "127.0.0.1", tmp_path / "node")
    assert again.ensure(["10.0.0.1:8100"]) == started, "it runs: it is not started twice"
    os.kill(started.pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while again.running is not None:
        assert time.monotonic() < until
    other = again.ensure([])
    assert other is not None
    assert other.pid != started.pid
    again.end(30)
    assert first.running is None
    (tmp_path / "node" / "drained").touch()
    assert again.ensure([]) is None, "it was drained"
    again.restore()
    assert first.ensure([]) is not None
    first.end(30)
