"""The gateway processes beside the node's: started, told what changes, replaced where one dies, and ended."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from starlette.types import ASGIApp

from server.access.accounts import PERIOD_S
from server.config.settings import Settings, SettingsError
from server.peers.wire import HEARTBEAT_S
from server.processes.messages import Begin, Tiers
from server.processes.served import Served
from server.services import NodeServices

log = logging.getLogger("coe.processes")

FRESH_S = 0.02
"""Seconds in which changes are gathered before the processes are told."""
PAUSES_S = (0.0, 0.5, 2.0, 10.0)
"""Pauses before a process is replaced: the next one each time it lived less than ``SHORT_S``."""
SHORT_S = 5.0
GRACE_S = 5.0
"""Seconds that a process has to end beside those of ``server.drain_s``."""
RELOAD_S = 60.0


@dataclass(slots=True)
class _Process:
    process: asyncio.subprocess.Process
    served: Served

    async def over(self) -> None:
        """Waits for its end, and until what it told last is taken in."""
        await self.process.wait()
        await self.served.link.ended()


class Processes:
    """The processes beside the node's. They take over ``listener`` as it is, so that the system gives each
    connection to one that waits."""

    def __init__(
        self, services: NodeServices, app: ASGIApp, listener: socket.socket, *, verbose: bool
    ) -> None:
        """``app``: what answers requests that they pass on whole."""
        self._services = services
        self._app = app
        self._listener = listener
        self._verbose = verbose
        self._running: dict[int, _Process] = {}
        self._keeping: list[asyncio.Task[None]] = []
        self._stopping = False
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Processes [{', '.join(str(each.process.pid) for each in self._running.values())}]>"

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(each.process.pid for each in self._running.values())

    async def start(self, count: int) -> None:
        """Starts ``count`` processes, and waits until they listen. Raises SettingsError."""
        self._keeping = [
            asyncio.create_task(self._keep(number), name=f"keep gateway process {number}")
            for number in range(1, count + 1)
        ]
        if count:
            self._keeping += map(asyncio.create_task, (self._tell_changes(), self._tell_keys()))
        while not all(number in self._running for number in range(1, count + 1)) or not self._all_ready:
            if any(task.done() for task in self._keeping):
                raise SettingsError("a gateway process does not start; the lines above say why")
            self._changed.clear()
            await self._changed.wait()

    @property
    def _all_ready(self) -> bool:
        return all(each.served.ready.is_set() for each in self._running.values())

    def stop(self) -> None:
        """Has them end once their answers are given; the second time at once."""
        order, self._stopping = "hurry" if self._stopping else "stop", True
        self._tell(order)
        for each in self._running.values():
            if not each.served.ready.is_set():  # it has no answers to give, and does not read yet
                with contextlib.suppress(ProcessLookupError):
                    each.process.kill()

    async def reload(self, settings: Settings) -> None:
        """Has them serve other settings, and returns when all do. One that cannot is replaced."""
        await asyncio.gather(*(self._reload(each, settings) for each in self._running.values()))

    async def _reload(self, each: _Process, settings: Settings) -> None:
        if each.served.link.gone:
            return  # what takes its place begins with them
        each.served.reloaded = asyncio.get_running_loop().create_future()
        each.served.link.tell("reload", settings)
        why_not = f"it does not answer within {RELOAD_S:g} s"
        with contextlib.suppress(TimeoutError):
            why_not = await asyncio.wait_for(each.served.reloaded, RELOAD_S)
        if not why_not:
            return
        log.error("gateway process %d does not take the new configuration: %s", each.process.pid, why_not)
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()

    async def close(self) -> None:
        """Waits for their ends."""
        if not self._stopping:
            self.stop()
        ends = [each.over() for each in self._running.values()]
        try:
            async with asyncio.timeout(self._services.settings.server.drain_s + GRACE_S):
                await asyncio.gather(*ends)
        except TimeoutError:
            for each in self._running.values():
                with contextlib.suppress(ProcessLookupError):
                    each.process.kill()
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)

    async def _keep(self, number: int) -> None:
        """Keeps one process running. Returns if the first ended before it ever listened."""
        short, listened = 0, False
        while True:
            await asyncio.sleep(PAUSES_S[min(short, len(PAUSES_S) - 1)])
            if self._stopping:
                return
            began = time.monotonic()
            try:
                each = self._running[number] = await self._started()
            except OSError as error:
                log.error("a gateway process cannot be started: %s", error)
                self._changed.set()
                if not listened:
                    return
                short += 1
                continue
            try:
                listened |= await self._lived(each)
            finally:
                del self._running[number]
                each.served.link.close()
            self._changed.set()
            if self._stopping or not listened:
                return
            short = short + 1 if time.monotonic() - began < SHORT_S else 0
            code = each.process.returncode
            log.error("gateway process %d ended with %s; another takes its place", each.process.pid, code)

    async def _lived(self, each: _Process) -> bool:
        """Waits for the end of a process. Returns whether it ever listened."""
        ready = asyncio.create_task(each.served.ready.wait())
        try:
            ended = asyncio.create_task(each.over())
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            self._changed.set()
            await ended
            return each.served.ready.is_set()
        finally:
            ready.cancel()
            if each.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    each.process.kill()

    async def _started(self) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs, _inheritable(theirs, self._listener) as descriptors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server.worker", *map(str, descriptors)),
                pass_fds=descriptors,
                start_new_session=True,  # a terminal's Ctrl-C is for the node, which tells them
            )
        served = Served(self._services, self._app)
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: served.link, sock=ours)
        services = self._services
        keys = services.accounts.keys
        served.link.tell("begin", Begin(services.settings, self._verbose, keys, services.started))
        served.link.tell("tiers", self._tiers())
        return _Process(process, served)

    async def _tell_changes(self) -> None:
        """Tells all what the tiers hold, whenever that has changed."""
        while True:
            await self._services.residency.next(HEARTBEAT_S)
            await asyncio.sleep(FRESH_S)
            try:
                self._tell_tiers()
            except Exception:  # they go by what they were told, until the next change
                log.exception("the gateway processes are not told what the tiers hold")

    def _tell_tiers(self) -> None:
        """Tells those that read what they are told. The others are told what is there by then."""
        tiers = self._tiers()
        for each in self._running.values():
            if not each.served.link.full:
                each.served.link.tell("tiers", tiers)

    async def _tell_keys(self) -> None:
        """Tells all which keys there are, as soon as the accounts have read others."""
        keys = self._services.accounts.keys
        while True:
            await asyncio.sleep(PERIOD_S)
            if self._services.accounts.keys is not keys:
                keys = self._services.accounts.keys
                self._tell("keys", keys)

    def _tell(self, *message: object) -> None:
        for each in self._running.values():
            each.served.link.tell(*message)

    def _tiers(self) -> Tiers:
        services, peers = self._services, self._services.peers
        return Tiers(
            services.tiers.status(),
            services.tiers.progress(),
            {name: engine.state for name, engine in services.engines.items()},
            services.breakers.open,
            None if peers is None else peers.here,
            () if peers is None else tuple(peer.address for peer in peers.others),
        )


@contextlib.contextmanager
def _inheritable(*sockets: socket.socket) -> Iterator[tuple[int, ...]]:
    """Gives the file descriptors of sockets, copies that a child inherits and this process loses again."""
    descriptors = tuple(os.dup(each.fileno()) for each in sockets)
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@contextlib.asynccontextmanager
async def beside(
    services: NodeServices, app: ASGIApp, listener: socket.socket, *, verbose: bool
) -> AsyncIterator[Processes]:
    """Has as many processes beside this one as are configured; leaving waits for their ends."""
    processes = Processes(services, app, listener, verbose=verbose)
    try:
        yield processes
    finally:
        await processes.close()
