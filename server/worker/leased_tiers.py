"""The tiers as a gateway process has them: leases by the node, engines asked directly."""

import asyncio
from collections.abc import Mapping

from experts.engines.engine import NO_HEADERS, Body, EngineResponse, EngineState
from experts.errors import EngineUnavailable
from experts.vllm.address import Address
from experts.vllm.reach import EngineRun, Reach
from memory_tiers.events import Priority
from memory_tiers.lease import Lease
from memory_tiers.replicas import replica_name
from memory_tiers.status import ExpertStatus, MoveProgress
from server.processes.link import Link
from server.processes.messages import Granted, Tiers


class LeasedTiers:
    """Implements ``memory_tiers.residency.Residency``."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._told = Tiers((), (), {}, {}, None)
        self._reaches: dict[str, tuple[EngineRun, Reach]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<LeasedTiers [{', '.join(self._reaches)}]>"

    def follow(self, told: Tiers) -> None:
        """Takes in what the node told."""
        self._told = told

    @property
    def engines(self) -> Mapping[str, "ReachedEngine"]:
        return {name: ReachedEngine(self, name) for name in self._told.engines}

    def state(self, engine: str) -> EngineState:
        return self._told.engines.get(engine, "stopped")

    async def alive(self, engine: str) -> bool:
        """Has the node ask the engine whether it lives."""
        answer: bool = await self._link.call("alive", engine)
        return answer

    async def lease(
        self,
        expert: str,
        *,
        fail_fast: bool = False,
        priority: Priority = "normal",
        conversation: str = "",
        keep_s: float | None = None,
    ) -> Lease:
        granted: Granted = await self._link.call("lease", expert, fail_fast, priority, conversation, keep_s)
        return Lease(
            expert,
            ReachedEngine(self, granted.engine, granted.address, self._reach(granted)),
            granted.tier,
            granted.queue_seconds,
            granted.swap_seconds,
            lambda: self._link.tell("release", granted.number),
        )

    def has_several(self, family: str) -> bool:
        return replica_name(family, 1) in self._told.engines

    def foresee(self, chances: Mapping[str, float]) -> None:
        if chances:
            self._link.tell("foresee", dict(chances))

    def status(self) -> tuple[ExpertStatus, ...]:
        return self._told.experts

    def progress(self) -> tuple[MoveProgress, ...]:
        return self._told.moves

    async def close(self) -> None:
        """Closes the ways to the engines."""
        for _, reach in self._reaches.values():
            await reach.close()
        await asyncio.gather(*self._closing)

    def _reach(self, granted: Granted) -> Reach:
        """Returns the way to an engine's present run; that to an earlier one ends."""
        run, reach = self._reaches.get(granted.engine, (None, None))
        if reach is None or run != granted.run:
            if reach is not None:
                closing = asyncio.create_task(reach.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            reach = Reach(granted.run)
            self._reaches[granted.engine] = granted.run, reach
        return reach


class ReachedEngine:
    """Implements ``experts.engines.engine.Answering``. Without an ``address`` it cannot be asked."""

    __slots__ = ("_address", "_name", "_reach", "_tiers")

    def __init__(
        self, tiers: LeasedTiers, name: str, address: Address | None = None, reach: Reach | None = None
    ) -> None:
        self._tiers = tiers
        self._name = name
        self._address = address
        self._reach = reach

    def __repr__(self) -> str:
        return f"<ReachedEngine {self._name} [{self.state}]>"

    @property
    def state(self) -> EngineState:
        return self._tiers.state(self._name)

    async def request(
        self, expert: str, path: str, body: Body, headers: Mapping[str, str] = NO_HEADERS
    ) -> EngineResponse:
        if self._address is None or self._reach is None:
            raise EngineUnavailable(f"no lease of {expert} is held")
        return await self._reach.request(self._address, path, body, headers)

    async def alive(self) -> bool:
        return await self._tiers.alive(self._name)
