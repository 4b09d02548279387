"""The end of a node that an operator sends away: first others get what only it holds."""

import asyncio
import logging
import signal
import time
from collections.abc import Iterator

from cluster.placement.actions import Action, Drained, Want
from cluster.placement.events import (
    DrainBegun,
    OrderFailed,
    PlacedExpert,
    TimePassed,
)
from cluster.placement.placement_state import PlacementState
from cluster.placement.rules import PlacementRules
from server.node.snapshots import taken
from server.peers.peers import HERE
from server.peers.wire import HEARTBEAT_S, NodeOrder
from server.services import NodeServices

log = logging.getLogger("coe.cluster")

_RULES = PlacementRules(copies=1, lost_grace_s=0, order_s=30, avoid_s=5)


class Departure:
    """Gives away what only this node holds, then ends the process as SIGTERM does."""

    def __init__(self, services: NodeServices) -> None:
        self._services = services
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Departure{' under way' if self._task is not None else ''}>"

    def begin(self) -> None:
        """Begins it. Idempotent."""
        assert self._services.peers is not None, "there are others"
        self._services.peers.leaving = True
        self._services.residency.note()
        if self._task is None:
            self._task = asyncio.create_task(self._leave(), name="leave the cluster")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _leave(self) -> None:
        log.info("this node drains: others get what only it holds")
        try:
            await self._give_away()
        except Exception:
            log.exception("not all that only this node holds was given away: others load it from disk")
        else:
            log.info("this node has given away what others could take, and ends")
        self._note()
        signal.raise_signal(signal.SIGTERM)

    def _note(self) -> None:
        """Has whoever starts this node not start it again, where the configuration names a file for that."""
        config = self._services.settings.cluster
        if config is not None and config.drained is not None:
            try:
                config.drained.touch()
            except OSError as error:
                log.error("%s cannot be made: %s: this node may be started again", config.drained, error)

    async def _give_away(self) -> None:
        assert self._services.peers is not None, "there are others"
        held = self._services.peers.here.experts
        experts = [PlacedExpert(name, place.bytes) for name, place in held.items() if place.tier != "disk"]
        state = PlacementState(_RULES, experts, term=1)
        actions = [*self._look(state), *state.handle(DrainBegun(HERE, time.monotonic()))]
        while not await self._done(state, actions):
            await self._services.residency.next(HEARTBEAT_S)
            actions = [*self._look(state)]

    def _look(self, state: PlacementState) -> Iterator[Action]:
        peers = self._services.peers
        assert peers is not None, "there are others"
        now = time.monotonic()
        yield from state.handle(taken(HERE, peers.here, now))
        for peer in peers.up:
            if peer.snapshot is not None and not peer.snapshot.draining and not peer.snapshot.gateway:
                yield from state.handle(taken(str(peer.address), peer.snapshot, now))
        yield from state.handle(TimePassed(now))

    async def _done(self, state: PlacementState, actions: list[Action]) -> bool:
        """Carries the actions out. True: nothing is left to do, nobody has room for the rest, which is on
        disk then, or nobody is there."""
        peers = self._services.peers
        assert peers is not None, "there are others"
        up = {str(peer.address): peer for peer in peers.up}
        for action in actions:
            if isinstance(action, Drained):
                return True
            if isinstance(action, Want):
                why = "it does not answer"
                if action.node in up:
                    why = await up[action.node].want(NodeOrder(expert=action.expert, tier=action.tier))
                if why:
                    log.warning("node %s does not take %s: %s", action.node, action.expert, why)
                    failed = OrderFailed(action.node, action.expert, why, time.monotonic())
                    actions += state.handle(failed)  # who takes it instead
        return state.settled or not up
