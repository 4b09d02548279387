import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from experts.engines.process import EngineProcess
from experts.engines.session import session_members

SERVER = """
    import os, subprocess, sys, time
    from multiprocessing import shared_memory
    segment = shared_memory.SharedMemory(create=True, size=4096)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open("{socket}", "w").close()
    print("ready", os.getcwd(), segment._name, flush=True)
    time.sleep(600)
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


async def launched(log: Path, program: str = SERVER) -> EngineProcess:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = await EngineProcess.launch(command, {}, log)
    async with asyncio.timeout(30):
        while "ready" not in process.log_tail():
            assert process.running, process.log_tail()
            await asyncio.sleep(0.01)
    return process


async def test_an_engine_has_a_private_folder_and_a_session_of_its_own(tmp_path: Path) -> None:
    process = await launched(tmp_path / "e.log")
    folder = process.socket.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert f"ready {folder} " in process.log_tail()
    assert len(str(process.socket)) < 100
    assert len(list(session_members(process.pid))) == 3, "server, child, resource tracker"
    await process.stop()


async def test_stop_leaves_no_process_folder_or_segment(tmp_path: Path) -> None:
    process = await launched(tmp_path / "e.log", textwrap.dedent(STUBBORN) + textwrap.dedent(SERVER))
    segment = segment_of(process)
    assert segment.exists()
    await process.stop(grace_s=0.2)
    await process.stop()
    assert list(session_members(process.pid)) == []
    assert not process.running
    assert not process.socket.parent.exists()
    assert not segment.exists()


async def test_the_end_of_the_server_ends_its_children_and_tells_why(tmp_path: Path) -> None:
    process = await launched(tmp_path / "e.log")
    segment = segment_of(process)
    os.kill(process.pid, signal.SIGKILL)
    reason = await asyncio.wait_for(process.ended(), 100)
    assert "SIGKILL" in reason
    assert "ready" in reason
    assert list(session_members(process.pid)) == []
    assert not segment.exists()


async def test_the_end_of_an_expected_child_ends_the_run(tmp_path: Path) -> None:
    process = await launched(tmp_path / "e.log")
    process.expect_all()
    child = max(session_members(process.pid))
    assert process.intact
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not process.intact)  # without the event loop, which has not been told
    await asyncio.wait_for(process.ended(), 100)
    assert list(session_members(process.pid)) == []


async def test_a_compiler_that_ends_is_not_the_engines_end(tmp_path: Path) -> None:
    compilers = """
        import os, subprocess, sys, time
        compiler = subprocess.Popen(["sleep", "600"])
        pool = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "compile_worker"])
        print("ready", compiler.pid, pool.pid, flush=True)
        time.sleep(600)
    """
    process = await launched(tmp_path / "e.log", compilers)
    process.expect_all()
    compiling = {int(pid) for pid in re.findall(r"\d+", process.log_tail())}
    for pid in compiling:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: compiling.isdisjoint(session_members(process.pid)))
    assert process.intact
    assert process.running
    await process.stop()


async def test_an_exit_code_and_the_last_lines_are_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('no GPU here'); sys.exit(3)"]
    process = await EngineProcess.launch(command, {}, tmp_path / "e.log")
    assert await process.ended() == (
        f"the engine's process ended with exit code 3; last lines of {tmp_path / 'e.log'}:\nno GPU here"
    )


async def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "e.log"
    for run in ("first", "second"):
        process = await EngineProcess.launch([sys.executable, "-c", f"print('{run}')"], {}, log)
        await process.ended()
    assert log.read_text() == "second\n"
    assert log.with_name("e.log.1").read_text() == "first\n"


def test_a_killed_gateway_takes_the_engine_with_it(tmp_path: Path) -> None:
    log = tmp_path / "e.log"
    server = "from experts.inside_vllm.parent_death_signal import set_parent_death_signal\nimport os, time\n"
    server += "if os.fork() == 0: set_parent_death_signal()\nprint('ready', flush=True)\ntime.sleep(600)\n"
    gateway = f"""
        import asyncio, sys
        from pathlib import Path
        from experts.engines.process import EngineProcess
        async def main():
            process = await EngineProcess.launch([sys.executable, "-c", {server!r}], {{}}, Path({str(log)!r}))
            print(process.pid, process.socket.parent, flush=True)
            await process.ended()
        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(gateway)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        session, folder = running.stdout.readline().split()
        wait_until(lambda: log.exists() and log.read_text().count("ready") == 2)
        running.kill()
    wait_until(lambda: list(session_members(int(session))) == [])
    asyncio.run(run_nothing(log))
    assert not Path(folder).exists(), "what a killed gateway leaves the next one removes"


async def run_nothing(log: Path) -> None:
    process = await EngineProcess.launch([sys.executable, "-c", ""], {}, log)
    await process.ended()


def segment_of(process: EngineProcess) -> Path:
    name: str = re.findall(r"psm_\w+", process.log_tail())[0]
    return Path("/dev/shm", name)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
