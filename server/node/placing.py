"""Runs the placement on the node that has run longest, and has all nodes follow it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from cluster.election import Seniority, Standing
from cluster.event_log import PlacementLog
from cluster.placement.actions import Action, Publish, Unwant, Want
from cluster.placement.events import (
    DemandSeen,
    DrainBegun,
    Event,
    ExpertsChanged,
    NodeLost,
    OrderFailed,
    PlacedExpert,
    RebalanceBegun,
    TimePassed,
)
from cluster.placement.placement_state import PlacementState
from cluster.placement.rules import PlacementRules
from memory_tiers.errors import LogUnwritable
from memory_tiers.tiers import HEIGHT
from server.node.moves import Moves
from server.node.snapshots import taken
from server.peers.peers import Peers
from server.peers.wire import (
    LOST_S,
    MoveNote,
    NodeOrder,
    NodeSnapshot,
    PlacementNews,
    TableChange,
)

log = logging.getLogger("coe.cluster")

TICK_S = 0.1
"""Seconds after which the placement looks again where no node has said anything."""
LOOKS = 64
"""Most times at once that the placement is told that time has passed."""
REMEMBERED = 256
"""Changes of the table that are sent one by one; whoever missed more gets the whole."""


class Placing:
    """Has one node of those that hear each other decide. What one has decided by, and its moves, end with its
    term: the next one learns all from what nodes say."""

    def __init__(
        self,
        peers: Peers,
        rules: PlacementRules,
        obey: Callable[[NodeOrder], str],
        event_log: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``obey``: carries out an order to this node; returns why it does not."""
        self._peers = peers
        self._rules = rules
        self._obey = obey
        self._event_log = event_log
        self._clock = clock
        self._term: Term | None = None

    def __repr__(self) -> str:
        return f"<Placing {self._term!r} {self._peers.followed!r}>"

    async def run(self) -> None:
        """Places experts whenever it is this node's turn, for ever."""
        await asyncio.sleep(LOST_S)  # by then it is known who is there
        try:
            while True:
                try:
                    self._look()
                except Exception:
                    log.exception("the placement broke; it begins anew")
                    self._end()
                    self._peers.followed.election.deciding = False
                await self._peers.changed.next(TICK_S)
        finally:
            self._end()

    def even_out(self) -> bool:
        """Spreads copies evenly over the nodes. False: another node decides that."""
        if self._term is None:
            return False
        self._term.feed(RebalanceBegun(self._clock()))
        return True

    def _look(self) -> None:
        peers = self._peers
        if not peers.others and self._term is None:
            return
        election = peers.followed.election
        others = [_standing(peer.snapshot) for peer in peers.up if peer.snapshot is not None]
        begins = election.look(others, leaving=peers.leaving or _never_places(peers.here))
        if self._term is not None and (begins or not election.deciding):
            log.info("this node places experts no more in term %d", self._term.number)
            self._end()
        if begins:
            log.info("this node places experts in term %d", election.term)
            self._term = Term(election.term, peers, self._rules, self._obey, self._clock, self._event_log)
        if self._term is not None:
            self._term.look()

    def _end(self) -> None:
        if self._term is not None:
            self._term.close()
            self._term = None


class Term:
    """One node's time as the one that decides."""

    def __init__(
        self,
        number: int,
        peers: Peers,
        rules: PlacementRules,
        obey: Callable[[NodeOrder], str],
        clock: Callable[[], float],
        event_log: Path | None,
    ) -> None:
        self.number = number
        self._peers = peers
        self._obey = obey
        self._clock = clock
        self._state = PlacementState(rules, (), number)
        self._log = _log(event_log, rules, number)
        self._moves = Moves()
        self._sizes: dict[str, int] = {}
        self._said: dict[str, NodeSnapshot] = {}
        self._asked: set[str] = set()
        self._published: deque[Publish] = deque(maxlen=REMEMBERED)
        self._told: dict[str, tuple[int, int]] = {}
        self._telling: set[str] = set()
        self._refused: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Term {self.number} {self._state!r} {self._moves!r}>"

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._log is not None:
            self._log.close()

    def look(self) -> None:
        """Takes in what nodes have said, has nodes told what follows, and tells all of the table."""
        now, everyone = self._clock(), self._nodes()
        nodes = {name: said for name, said in everyone.items() if not said.gateway}
        self._take_in_experts(nodes, now)
        for name in self._said.keys() - nodes.keys():
            del self._said[name]
            self.feed(NodeLost(name, now))
        for name, said in nodes.items():
            before = self._said.get(name)
            if before is None or (said.run, said.number) != (before.run, before.number):
                self._said[name] = said
                self.feed(taken(name, said, now))
                if said.draining:
                    self.feed(DrainBegun(name, now))
        self._take_in_demand(everyone, now)
        for _ in range(LOOKS):
            if self._state.deadline is None or self._state.deadline > now:
                break
            self.feed(TimePassed(now))
        self._moves.end(self._state.ordered, self._there, now)
        self._tell_all(now)

    def feed(self, event: Event) -> None:
        """Decides on the event, and has done what follows."""
        if self._closed:
            return
        actions = self._state.handle(event)
        if self._log is not None:
            try:
                self._log.write(event, actions)
            except LogUnwritable as error:
                log.error("%s", error)
                self._log = None
        for action in actions:
            self._carry_out(action)

    def _nodes(self) -> Mapping[str, NodeSnapshot]:
        others = {str(peer.address): peer.snapshot for peer in self._peers.up if peer.snapshot is not None}
        return {self._peers.address: self._peers.here, **others}

    def _take_in_experts(self, nodes: Mapping[str, NodeSnapshot], now: float) -> None:
        sizes = {name: place.bytes for said in nodes.values() for name, place in said.experts.items()}
        if sizes != self._sizes:
            self._sizes = sizes
            self.feed(ExpertsChanged(tuple(PlacedExpert(*each) for each in sizes.items()), now))

    def _take_in_demand(self, nodes: Mapping[str, NodeSnapshot], now: float) -> None:
        rates: dict[str, float] = dict.fromkeys(self._asked, 0.0)
        for said in nodes.values():
            for expert, rate in said.demand.items():
                rates[expert] = rates.get(expert, 0.0) + rate
        for expert, rate in rates.items():
            self.feed(DemandSeen(expert, rate, self._peers.wait_s(expert) if rate else 0.0, now))
        self._asked = {expert for expert, rate in rates.items() if rate}

    def _there(self, note: MoveNote) -> bool:
        """Says whether a move has led to where it should."""
        place = self._said[note.node].experts.get(note.expert) if note.node in self._said else None
        if place is None:
            return False
        here, wanted = HEIGHT[place.tier], HEIGHT[note.tier]
        return here <= wanted if note.leaves else here >= wanted

    def _carry_out(self, action: Action) -> None:
        match action:
            case Want() | Unwant():
                note = self._moves.begin(action, self._clock())
                self._spawn(self._order(note), f"order {note.expert} on {note.node}")
            case Publish():
                self._published.append(action)
            case _:  # Drained: a node that drains looks itself
                pass

    async def _order(self, note: MoveNote) -> None:
        order = NodeOrder(
            expert=note.expert,
            tier=note.tier,
            leaves=note.leaves,
            source=note.source,
            term=self.number,
            placer=self._peers.id,
        )
        peer = next((peer for peer in self._peers.up if str(peer.address) == note.node), None)
        if note.node == self._peers.address:
            why = self._obey(order)
        elif peer is not None:
            why = await peer.want(order)
        else:
            why = "it does not answer"
        if why:
            log.warning("node %s does not take %s to %s: %s", note.node, note.expert, note.tier, why)
            now = self._clock()
            self._moves.fail(note.node, note.expert, why, now)
            self.feed(OrderFailed(note.node, note.expert, why, now))

    def _tell_all(self, now: float) -> None:
        mine = (self._state.epoch.count, self._moves.version)
        if self._told.get(self._peers.address) != mine:
            self._peers.followed.take(self._news(self._peers.address, now))
            self._told[self._peers.address] = mine
        for peer in self._peers.up:
            name = str(peer.address)
            if self._told.get(name) != mine and name not in self._telling:
                self._telling.add(name)
                self._spawn(self._tell(name, mine, self._news(name, now)), f"tell {name} of the table")

    async def _tell(self, name: str, what: tuple[int, int], news: PlacementNews) -> None:
        try:
            peer = next(peer for peer in self._peers.all if str(peer.address) == name)
            why = await peer.follow(news)
            if why != self._refused.get(name, ""):
                log.info("node %s %s", name, f"does not follow: {why}" if why else "follows")
            self._refused[name] = why
            if why:
                self._told.pop(name, None)
                await asyncio.sleep(TICK_S)
            else:
                self._told[name] = what
        finally:
            self._telling.discard(name)

    def _news(self, name: str, now: float) -> PlacementNews:
        """Returns what ``name`` does not know yet."""
        told, epoch = self._told.get(name), self._state.epoch
        missed = [each for each in self._published if told is not None and each.epoch.count > told[0]]
        whole = told is None or len(missed) != epoch.count - told[0]
        if whole:
            changes = [TableChange(count=epoch.count, entries=self._state.table)]
        else:
            changes = [TableChange(count=each.epoch.count, entries=each.entries) for each in missed]
        return PlacementNews(
            term=self.number,
            placer=self._peers.id,
            address=self._peers.address,
            whole=whole,
            changes=tuple(changes),
            moves=self._moves.notes(now),
        )

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)


def _standing(said: NodeSnapshot) -> Standing:
    hears = None if said.hears is None else Seniority(*said.hears)
    return Standing(Seniority(said.run, said.id), _never_places(said), hears, said.term, said.placer)


def _never_places(said: NodeSnapshot) -> bool:
    """Says whether the node leaves the placement to others: it ends, or is a gateway alone."""
    return said.draining or said.gateway


def _log(path: Path | None, rules: PlacementRules, term: int) -> PlacementLog | None:
    if path is None:
        return None
    try:
        return PlacementLog(path.with_name(f"{path.stem}-{term}{path.suffix}"), rules, (), term)
    except LogUnwritable as error:
        log.error("%s", error)
        return None
