"""Ray's part: an actor for each machine, which starts its node, and one that looks for machines.

They hold nothing that is not found again: an actor that is started anew finds the node that runs.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from server.fleet.cluster_file import ClusterFile
from server.fleet.machine_folder import own_folder, raylet_of_this_process
from server.fleet.node_process import NodeProcess, Started

LOOK_S = 1.0
"""Seconds after which the machines are looked at again."""
NAMESPACE = "composition-of-experts"
END_S = 120.0
"""Most seconds that a node has to end."""
ANSWER_S = 120.0
"""Most seconds until an actor answers."""


class Keeper:
    """Keeps the node of its machine running."""

    def __init__(self, file: ClusterFile) -> None:
        id = ray.get_runtime_context().get_node_id()
        known = hashlib.blake2b(f"{file.name} {file.config}".encode(), digest_size=6).hexdigest()
        folder = file.state or Path(tempfile.gettempdir()) / f"coe-fleet-{known}"
        host = ray.util.get_node_ip_address()
        self._process = NodeProcess(file, host, own_folder(folder, id, raylet_of_this_process(host)))

    def address(self) -> str:
        return self._process.address()

    def ensure(self, peers: list[str]) -> Started | None:
        return self._process.ensure(peers)

    def restore(self) -> None:
        self._process.restore()

    def end(self) -> None:
        self._process.end(END_S)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes by the ids of Ray's machines. ``waiting``: machines whose node has not started yet; ``drained``:
    those whose node was drained."""

    nodes: Mapping[str, Started]
    waiting: tuple[str, ...]
    drained: tuple[str, ...]


class Watcher:
    """Has a keeper on each machine that Ray knows, those that come later too. Machines do not wait for each
    other: of one that is gone, Ray says so only after seconds."""

    async def __init__(self, file: ClusterFile) -> None:  # type: ignore[misc]  # Ray awaits it
        self._file = file
        self._keepers: dict[str, Any] = {}
        self._addresses: dict[str, str] = {}
        self._nodes: dict[str, Started] = {}
        self._drained: set[str] = set()
        self._restoring: set[str] = set()
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        await self.begin()

    async def begin(self) -> None:
        """Begins to look for machines, also after ``end``. Idempotent."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_for_ever())

    async def restore(self) -> None:
        """Has nodes that were drained started again, soon."""
        self._restoring = await asyncio.to_thread(self._machines)

    async def fleet(self) -> Fleet:
        there = self._machines()
        nodes = {id: started for id, started in self._nodes.items() if id in there}
        drained = (self._drained - self._restoring) & there
        return Fleet(nodes, tuple(there - nodes.keys() - drained), tuple(drained))

    async def end(self) -> Mapping[str, str]:
        """Ends all nodes and their keepers, also those of which this actor does not know yet, since it was
        started anew. Returns why a node has not ended, by its machine."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        for id in [*self._tending]:
            self._forget(id)
        machines = await asyncio.to_thread(self._machines)
        ends = {id: asyncio.create_task(self._end(id)) for id in machines}
        while not all(end.done() for end in ends.values()):
            await asyncio.wait(ends.values(), timeout=LOOK_S, return_when=asyncio.ALL_COMPLETED)
            for id in ends.keys() - await asyncio.to_thread(self._machines):
                ends.pop(id).cancel()  # its node has ended with it
        self._keepers.clear()
        return {id: why for id, end in ends.items() if (why := end.result())}

    async def _end(self, id: str) -> str:
        try:
            keeper = self._keepers.get(id) or _keeper(self._file, id)
            await keeper.end.remote()
        except (ray.exceptions.RayError, ValueError) as error:
            return str(error)
        ray.kill(keeper)
        return ""

    def _machines(self) -> set[str]:
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}

    async def _look_for_ever(self) -> None:
        while True:
            try:
                self._look(await asyncio.to_thread(self._machines))
            except ray.exceptions.RayError as error:
                print(f"the machines are not known: {error}", flush=True)  # Ray logs what actors print
            await asyncio.sleep(LOOK_S)

    def _look(self, machines: set[str]) -> None:
        for id in self._keepers.keys() - machines:
            self._forget(id)
            del self._keepers[id]
        for id in sorted(machines):
            if id not in self._tending or self._tending[id].done():
                self._tending[id] = asyncio.create_task(self._tend(id))

    def _forget(self, id: str) -> None:
        if id in self._tending:
            self._tending.pop(id).cancel()
        for known in (self._addresses, self._nodes):
            known.pop(id, None)
        self._drained.discard(id)

    def _tended(self, id: str, started: Started | None) -> None:
        if started is None:
            self._drained.add(id)
            self._nodes.pop(id, None)
        else:
            self._drained.discard(id)
            self._nodes[id] = started

    async def _tend(self, id: str) -> None:
        """Has the machine's keeper start the node if it does not run, and tells it of all nodes whose address
        is known: of two that start at once, the later is told of the other. One that cannot now is asked
        again."""
        try:
            if id not in self._keepers:
                self._keepers[id] = _keeper(self._file, id)
            keeper = self._keepers[id]
            self._addresses[id] = await asyncio.wait_for(keeper.address.remote(), ANSWER_S)
            if id in self._restoring:
                await asyncio.wait_for(keeper.restore.remote(), ANSWER_S)
                self._restoring.discard(id)
                self._drained.discard(id)
            answer = keeper.ensure.remote([*self._addresses.values()])
            self._tended(id, await asyncio.wait_for(answer, ANSWER_S))
        except (ray.exceptions.RayError, TimeoutError, ValueError) as error:
            print(f"machine {id[:8]}: no node yet: {error}", flush=True)


def _keeper(file: ClusterFile, id: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node_id=id, soft=False)
    return (
        ray.remote(Keeper)
        .options(
            name=f"{file.name}-{id[:16]}",
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=-1,
            num_cpus=0,
            scheduling_strategy=there,
        )
        .remote(file)
    )


def connect(file: ClusterFile) -> None:
    """Connects to the Ray cluster. Raises ConnectionError."""
    ray.init(address=file.ray_address, namespace=NAMESPACE, log_to_driver=False, logging_level="warning")


def watcher(file: ClusterFile, *, begin: bool) -> Any:
    """Returns the actor that looks for machines. Raises ValueError where there is none, unless it is to
    ``begin``."""
    if not begin:
        return ray.get_actor(file.name, NAMESPACE)
    options = {"name": file.name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return ray.remote(Watcher).options(max_restarts=-1, num_cpus=0, **options).remote(file)
