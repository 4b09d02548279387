"""The node's end of a gateway process, without the process."""

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send

from server.config.settings import Settings
from server.peers.changes import ResidencyChanges
from server.processes import processes as processes_module
from server.processes.link import Link
from server.processes.processes import Processes, _Process
from server.processes.served import Served
from server.services import NodeServices


async def no_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError


class Tiers:
    """Tiers that grant nothing."""

    async def lease(self, expert: str, **_: Any) -> None:
        await asyncio.Event().wait()


def served() -> Served:
    services = SimpleNamespace(engines={}, tiers=Tiers(), settings=None)
    return Served(cast(NodeServices, services), no_app)


@pytest.mark.filterwarnings("error")
async def test_a_question_that_is_cancelled_in_the_same_message_is_forgotten() -> None:
    node = served()
    node.take(("lease", 7, "law", False, "normal", "", None))
    node.take(("cancel", 7))
    await asyncio.wait([*node._tasks.values()])
    await asyncio.sleep(0)
    assert node.idle, node


async def test_an_engine_that_a_reload_has_removed_does_not_live_and_ends_no_process() -> None:
    node, said = served(), []
    node.link.tell = lambda *message: said.append(message)  # type: ignore[method-assign]
    node.take(("alive", 3, "small"))
    await asyncio.wait([*node._tasks.values()])
    assert said == [("answer", 3, False)]


async def test_a_reload_does_not_wait_for_a_process_that_is_gone() -> None:
    node = served()
    beside = Processes(cast(NodeServices, SimpleNamespace()), no_app, cast(Any, None), verbose=False)
    beside._running[1] = _Process(cast(Any, SimpleNamespace(pid=1)), node)
    reload = asyncio.create_task(beside.reload(cast(Settings, None)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert node.reloaded is not None
    node.end()
    async with asyncio.timeout(10):
        await reload


async def test_a_process_that_reads_nothing_is_not_told_more_and_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Processes, "_tiers", lambda _: "now")
    node, said = served(), []
    node.link.tell = lambda *message: said.append(message)  # type: ignore[method-assign]
    beside = Processes(cast(NodeServices, SimpleNamespace()), no_app, cast(Any, None), verbose=False)
    beside._running[1] = _Process(cast(Any, SimpleNamespace(pid=1)), node)
    node.link.pause_writing()
    beside._tell_tiers()
    assert said == []
    node.link.resume_writing()
    beside._tell_tiers()
    assert said == [("tiers", "now")]


async def test_what_was_told_last_has_gone_out_once_a_link_is_finished() -> None:
    came: list[Any] = []
    near, far = Link(came.append, lambda: None), Link(came.append, lambda: None)
    loop, ends = asyncio.get_running_loop(), socket.socketpair()
    for end, link in zip(ends, (near, far), strict=True):
        end.setblocking(False)
        await loop.create_unix_connection(lambda link=link: link, sock=end)  # type: ignore[misc]
    assert far._transport is not None
    far._transport.pause_reading()
    for number in range(100):
        near.tell("settle", number, bytes(2**16))
    finishing = asyncio.create_task(near.finish())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not finishing.done(), "more than the system takes is under way"
    far._transport.resume_reading()
    async with asyncio.timeout(60):
        await finishing
        await far.ended()
    assert [number for _, number, _ in came] == [*range(100)]


async def test_processes_are_told_of_the_next_change_where_one_could_not_be_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter((RuntimeError("a status cannot be read"), "now"))
    told = asyncio.Event()

    def tiers(_: Processes) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Processes, "_tiers", tiers)
    node = served()
    node.link.tell = lambda *message: told.set()  # type: ignore[method-assign]
    changes = ResidencyChanges()
    services = cast(NodeServices, SimpleNamespace(residency=changes))
    beside = Processes(services, no_app, cast(Any, None), verbose=False)
    beside._running[1] = _Process(cast(Any, SimpleNamespace(pid=1)), node)
    telling = asyncio.create_task(beside._tell_changes())
    async with asyncio.timeout(60):
        await told.wait()
    telling.cancel()
    assert "a status cannot be read" in caplog.text


async def test_a_process_is_replaced_again_where_the_one_after_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes_module, "PAUSES_S", (0.0,))
    lives = iter(("listens", "never listens", "cannot be started", "listens"))
    started: list[str] = []
    enough = asyncio.Event()

    class Short(Processes):
        async def _started(self) -> _Process:
            life = next(lives, "")
            started.append(life)
            if life == "cannot be started":
                raise BlockingIOError(11, "Resource temporarily unavailable")
            if not life:
                enough.set()
                await asyncio.Event().wait()
            process = SimpleNamespace(pid=len(started), returncode=1, wait=lambda: asyncio.sleep(0))
            made = _Process(cast(Any, process), served())
            if life == "listens":
                made.served.take(("ready",))
            return made

    beside = Short(cast(NodeServices, SimpleNamespace()), no_app, cast(Any, None), verbose=False)
    keeping = asyncio.create_task(beside._keep(1))
    waiting = asyncio.create_task(enough.wait())
    await asyncio.wait({keeping, waiting}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert not keeping.done(), started
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    assert started == ["listens", "never listens", "cannot be started", "listens", ""]
