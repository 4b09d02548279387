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
        self._process = NodeProcess(file, ray.util.get_node_ip_address(), folder / id[:16])

    def address(self) -> str:
        return self._process.address()

    def ensure(self, peers: list[str]) -> Started:
        return self._process.ensure(peers)

    def end(self) -> None:
        self._process.end(END_S)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes by the ids of Ray's machines. ``waiting``: machines whose node has not started yet."""

    nodes: Mapping[str, Started]
    waiting: tuple[str, ...]


class Watcher:
    """Has a keeper on each machine that Ray knows, those that come later too."""

    async def __init__(self, file: ClusterFile) -> None:  # type: ignore[misc]  # Ray awaits it
        self._file = file
        self._keepers: dict[str, Any] = {}
        self._nodes: dict[str, Started] = {}
        self._ending = False
        self._looking = asyncio.get_running_loop().create_task(self._look_for_ever())

    async def fleet(self) -> Fleet:
        there = self._machines()
        nodes = {id: started for id, started in self._nodes.items() if id in there}
        return Fleet(nodes, tuple(there - nodes.keys()))

    async def end(self) -> None:
        """Ends all nodes and their keepers."""
        self._ending = True
        await self._looking
        ends = [keeper.end.remote() for keeper in self._keepers.values()]
        await asyncio.gather(*ends, return_exceptions=True)
        for keeper in self._keepers.values():
            ray.kill(keeper)

    def _machines(self) -> set[str]:
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}

    async def _look_for_ever(self) -> None:
        while not self._ending:
            machines = await asyncio.to_thread(self._machines)
            for id in self._keepers.keys() - machines:
                del self._keepers[id]
                self._nodes.pop(id, None)
            found = await asyncio.gather(*(self._address(id) for id in sorted(machines)))
            addresses = [address for address in found if address is not None]
            await asyncio.gather(*(self._keep(id, addresses) for id in sorted(machines)))
            await asyncio.sleep(LOOK_S)

    async def _address(self, id: str) -> str | None:
        """Returns where the machine's node will be, so that all are told of all before any is started."""
        try:
            if id not in self._keepers:
                self._keepers[id] = _keeper(self._file, id)
            address: str = await asyncio.wait_for(self._keepers[id].address.remote(), ANSWER_S)
        except (ray.exceptions.RayError, TimeoutError, ValueError) as error:
            print(f"machine {id[:8]}: no keeper yet: {error}", flush=True)  # Ray logs what actors print
            return None
        return address

    async def _keep(self, id: str, peers: list[str]) -> None:
        """Has the machine's keeper start the node if it does not run. One that cannot now is asked again."""
        if id not in self._keepers:
            return
        try:
            answer = self._keepers[id].ensure.remote(peers)
            self._nodes[id] = await asyncio.wait_for(answer, ANSWER_S)
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
