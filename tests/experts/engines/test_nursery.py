"""A server that is forked from a nursery is started, watched and ended as one that is not."""

import ast
import asyncio
import json
import logging
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experts.engines.nursery import READ_LATE, Nurseries
from experts.engines.process import EngineProcess
from experts.engines.session import send, session_members
from experts.vllm_seams import installed_sources

ROOT = Path(__file__).resolve().parents[3]
SERVER = "tests.experts.engines.forked_server"
ENVIRONMENT = {"GIVEN": "this", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def nurseries() -> Iterator[Nurseries]:
    with closing(Nurseries("tests.experts.engines.small_nursery")) as made:
        yield made


async def launched(
    nurseries: Nurseries, log: Path, *arguments: str, environment: Mapping[str, str] = ENVIRONMENT
) -> EngineProcess:
    command = [sys.executable, "-m", SERVER, *arguments]
    return await EngineProcess.launch(command, environment, log, nurseries)


async def said(process: EngineProcess) -> dict[str, Any]:
    """Report of a server about itself, once it runs."""
    async with asyncio.timeout(30):
        while "ready" not in process.log_tail():
            assert process.running, process.log_tail()
            await asyncio.sleep(0.01)
    found: dict[str, Any] = json.loads(process.log_tail().partition("ready ")[2])
    return found


async def test_servers_are_children_of_one_nursery_each_with_a_folder_and_a_session_of_its_own(
    nurseries: Nurseries, tmp_path: Path
) -> None:
    processes = [await launched(nurseries, tmp_path / f"{name}.log") for name in "ab"]
    found = [await said(process) for process in processes]
    for process, where in zip(processes, found, strict=True):
        folder = str(process.socket.parent)
        assert (where["cwd"], where["TMPDIR"], where["temporary"]) == (folder, folder, folder)
        assert (where["GIVEN"], where["OPENBLAS_NUM_THREADS"]) == (
            "this",
            os.environ.get("OPENBLAS_NUM_THREADS"),
        )
        assert len(list(session_members(process.pid))) == 2, "server and child"
        assert f"-m {SERVER}" in command_line(process.pid)
    assert found[0]["parent"] == found[1]["parent"] != os.getpid()
    for process in processes:
        await process.stop()


@pytest.mark.parametrize("forked", [True, False])
async def test_a_server_begins_with_a_variable_that_nothing_changes_and_so_can_be_given_a_title(
    forked: bool, nurseries: Nurseries, tmp_path: Path
) -> None:
    command, environment = [sys.executable, "-m", SERVER], {"A": "B", **ENVIRONMENT}
    process = await EngineProcess.launch(
        command, environment, tmp_path / "log", nurseries if forked else None
    )
    parent = (await said(process))["parent"]
    assert variables(parent if forked else process.pid)[0] == "PYTHONSAFEPATH=1"
    await process.stop()


async def test_what_this_process_changes_in_its_environment_later_makes_no_other_nursery(
    nurseries: Nurseries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = set()
    for name in "ab":
        monkeypatch.setenv("CHANGED_LATER", name)
        process = await launched(nurseries, tmp_path / f"{name}.log")
        parents.add((await said(process))["parent"])
        await process.stop()
    assert len(parents) == 1
    assert os.getpid() not in parents


async def test_servers_that_differ_in_what_vllm_reads_late_have_one_nursery(
    nurseries: Nurseries, tmp_path: Path
) -> None:
    found = []
    for given in ({}, {"VLLM_USE_V2_MODEL_RUNNER": "0"}, {}):
        process = await launched(nurseries, tmp_path / "a.log", environment=ENVIRONMENT | given)
        found.append(await said(process))
        await process.stop()
    assert [each["VLLM_USE_V2_MODEL_RUNNER"] for each in found] == [None, "0", None]
    assert len({each["parent"] for each in found}) == 1


def test_vllm_reads_late_what_it_is_said_to() -> None:
    """Its functions, as they run; the table in ``envs.py`` is of functions too."""
    sources = installed_sources()
    assert sources is not None
    for file in sources.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name == "envs.py" or not any(f"envs.{name}" in text for name in READ_LATE):
            continue
        module = ast.parse(text)
        functions = [
            each for each in ast.walk(module) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        inside = {node for function in functions for part in function.body for node in ast.walk(part)}
        reads = [
            node for node in ast.walk(module) if isinstance(node, ast.Attribute) and node.attr in READ_LATE
        ]
        assert all(node in inside for node in reads), file


async def test_the_log_begins_with_what_the_imports_said(nurseries: Nurseries, tmp_path: Path) -> None:
    process = await launched(nurseries, tmp_path / "a.log")
    await said(process)
    assert (tmp_path / "a.log").read_text().startswith("imported\n")
    await process.stop()


async def test_stop_leaves_no_process_and_no_folder(nurseries: Nurseries, tmp_path: Path) -> None:
    process = await launched(nurseries, tmp_path / "a.log")
    await said(process)
    await process.stop()
    assert list(session_members(process.pid)) == []
    assert not process.running
    assert not process.socket.parent.exists()


async def test_the_exit_code_is_told_and_children_end_too(nurseries: Nurseries, tmp_path: Path) -> None:
    assert "ended with exit code 7" in await (await launched(nurseries, tmp_path / "a.log", "7")).ended()
    process = await launched(nurseries, tmp_path / "b.log")
    await said(process)
    os.kill(process.pid, signal.SIGSEGV)
    assert "was killed by SIGSEGV" in await process.ended()
    assert list(session_members(process.pid)) == []


async def test_the_end_of_a_nursery_ends_its_servers_and_the_next_one_is_new(
    nurseries: Nurseries, tmp_path: Path
) -> None:
    process = await launched(nurseries, tmp_path / "a.log")
    before = (await said(process))["parent"]
    os.kill(before, signal.SIGKILL)
    assert "was killed by SIGKILL" in await process.ended()
    assert list(session_members(process.pid)) == []
    process = await launched(nurseries, tmp_path / "b.log")
    assert (await said(process))["parent"] not in (before, os.getpid())
    await process.stop()


async def test_where_imports_start_threads_servers_are_started_by_themselves_and_that_is_said_once(
    nurseries: Nurseries, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for name in "ab":
        threads = {**ENVIRONMENT, "START_A_THREAD": "1"}
        process = await launched(nurseries, tmp_path / f"{name}.log", environment=threads)
        assert (await said(process))["parent"] == os.getpid()
        await process.stop()
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "the imports have started 1 threads, so nothing can be forked" in warning


async def test_a_server_whose_connection_is_closed_is_killed(nurseries: Nurseries, tmp_path: Path) -> None:
    command = [sys.executable, "-m", SERVER]
    forked = await nurseries.fork(command, ENVIRONMENT, tmp_path, tmp_path / "a.log")
    assert forked is not None
    descriptor = os.pidfd_open(forked.pid)
    forked.close()
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    async with asyncio.timeout(30):
        await gone.wait()
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


def test_a_nursery_without_servers_ends(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from experts.inside_vllm.nursery import Nursery
        sys.exit(0 if Nursery(Path(sys.argv[1]), grace_s=0).run() is None else 1)
    """
    path = tmp_path / "nursery.sock"
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert not path.exists()


def test_a_killed_gateway_takes_nursery_and_servers_with_it(tmp_path: Path) -> None:
    program = f"""
        import asyncio
        from pathlib import Path
        from tests.experts.engines.test_nursery import Nurseries, launched, said

        async def main():
            nurseries = Nurseries("tests.experts.engines.small_nursery")
            process = await launched(nurseries, Path({str(tmp_path / "a.log")!r}))
            print(process.pid, (await said(process))["parent"], flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        server, nursery = map(int, gateway.stdout.readline().split())
        descriptors = [os.pidfd_open(pid) for pid in (server, nursery)]
        gateway.kill()
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 30)[0], "ended"
        os.close(descriptor)
    send(session_members(server), signal.SIGKILL)  # its child asked for no signal; the next start ends such


def variables(pid: int) -> list[str]:
    """Reads the variables that a process was started with; a title is written over them."""
    return Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
