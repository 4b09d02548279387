"""Limits of keys over all nodes: each key has a home among them, which counts for all.

The home follows from the key's name and the nodes that answer (rendezvous hashing), so all agree without
asking. A node that lets a request in asks the key's home first, and tells it the end. Each node keeps what it
has let in itself, and tells others with its heartbeat. So where a home is lost, the next one begins with what
the nodes that are there have let in, and with what those that are gone have told last.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from experts.errors import EngineUnavailable
from server.access.counts import Admitted, LocalCounts, Receipt
from server.access.figures import Figures, KeyTotal
from server.access.rate_limits import Instant, Left, LimitName, Refusal, Remaining, Reservation, now
from server.access.usage import Spent
from server.config.api_keys import UNLIMITED, Key, Limits
from server.peers.peer import Peer
from server.peers.peers import Peers
from server.peers.wire import (
    ADMIT,
    FIGURES,
    HEARTBEAT_S,
    LOST_S,
    SETTLE,
    AdmitAnswer,
    AdmitRequest,
    FiguresRequest,
    LeftOf,
    Settlement,
)

log = logging.getLogger("coe.cluster")

AGAIN_S = 0.02
"""Seconds until a home is looked for again, where nodes do not agree which it is or it does not answer."""
SETTLED_S = 20 * HEARTBEAT_S
"""Seconds for which a home that does not answer is told again what has ended."""
TOLD_S = 4 * HEARTBEAT_S
"""Seconds for which heartbeats have the figures of a key after its last use."""


def home_of(key: str, nodes: Iterable[str]) -> str:
    """Names the node among ``nodes`` that counts for a key: that with the highest hash of both (rendezvous
    hashing), so that of all keys only those of a node that comes or goes get another home."""
    return max(nodes, key=lambda node: hashlib.blake2b(f"{node}\0{key}".encode(), digest_size=8).digest())


@dataclass(frozen=True, slots=True)
class _Receipt:
    """Settles a request that the home let in. ``here``: this node's own reservation."""

    here: Reservation
    home: str
    steady: float


class KeyHomes:
    """Implements ``server.access.counts.Counts`` over all nodes."""

    def __init__(self, local: LocalCounts, peers: Peers, clock: Callable[[], Instant] = now) -> None:
        """``local``: counts what this node lets in itself."""
        self._local = local
        self._peers = peers
        self._clock = clock
        self._totals: dict[str, KeyTotal] = {}
        """Counts the keys whose home this node is."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._homes: dict[str, str] = {}
        """The node that counts for a key now, as far as this one was told."""
        self._used: dict[str, float] = {}
        self._settling: list[Settlement] = []
        self._ended: dict[str, list[Settlement]] = {}
        """Keeps what has ended while nodes are asked for their figures of a key, and is not in those."""
        self._asked = Counter[str]()
        """How often this node was asked for its figures of a key."""
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<KeyHomes, home of {len(self._totals)} keys>"

    # As the gateway asks

    async def admit(self, key: Key, tokens: int, *, offline: bool) -> Admitted | Refusal:
        if key.limits == UNLIMITED:
            return await self._local.admit(key, tokens, offline=offline)
        deadline = time.monotonic() + LOST_S + 1.0
        while True:
            home = self._home(key.name)
            try:
                if home is None:
                    found = await self.admit_for(
                        self._peers.id, key.name, key.limits, tokens, offline=offline
                    )
                else:
                    found = await self._ask_whole(home, key, tokens, offline=offline)
            except EngineUnavailable as error:
                if time.monotonic() > deadline:
                    log.error("key %s is counted by this node alone: %s", key.name, error)
                    return await self._local.admit(key, tokens, offline=offline)
                await asyncio.sleep(AGAIN_S)
                continue
            return self._taken(key, tokens, found, home, offline=offline)

    async def remaining(self, key: Key) -> Remaining:
        total = self._totals.get(key.name)
        if total is not None and self._home(key.name) is None:
            return total.remaining(key.limits, self._clock())
        return await self._local.remaining(key)

    def settle(self, key: Key, receipt: Receipt | None, expert: str, spent: Spent) -> None:
        if not isinstance(receipt, _Receipt):
            self._local.settle(key, receipt, expert, spent)
            return
        at, came = self._clock(), receipt.here
        self._local.settle(key, came, expert, spent)
        self._used[key.name] = at.steady
        self._settling.append(
            Settlement(
                node=self._peers.id,
                key=key.name,
                home=receipt.home,
                steady=receipt.steady,
                age_s=at.steady - came.at.steady,
                day=came.day,
                charged=came.tokens,
                offline=came.offline,
                used=spent.prompt_tokens + spent.completion_tokens,
            )
        )
        if len(self._settling) == 1:
            self._spawn(self._settle())

    # As other nodes ask

    async def admit_for(
        self, node: str, key: str, limits: Limits, tokens: int, *, offline: bool
    ) -> AdmitAnswer:
        """Lets a request in that came to ``node``, or says why not. Raises EngineUnavailable where another
        node is the key's home."""
        if self._home(key) is not None:
            raise EngineUnavailable(f"another node is the home of key {key}")
        total = await self._total(key)
        at = self._clock()
        decided = total.admit(node, limits, at, tokens, offline=offline)
        left: dict[str, LeftOf] = {
            name: LeftOf(limit=each.limit, remaining=each.remaining, reset_s=each.reset_s)
            for name, each in total.remaining(limits, at).of.items()
        }
        if isinstance(decided, Refusal):
            return AdmitAnswer(
                limit=decided.limit,
                most=decided.most,
                used=decided.used,
                asked=decided.asked,
                retry_after_s=decided.retry_after_s,
                left=left,
            )
        return AdmitAnswer(steady=decided.at.steady, left=left)

    def settle_for(self, settlement: Settlement) -> None:
        """Puts right what a request was charged here."""
        if settlement.key in self._ended:
            self._ended[settlement.key].append(settlement)
        total = self._totals.get(settlement.key)
        if total is not None:  # else figures that are asked for have it
            self._settle_in(total, settlement)

    def _settle_in(self, total: KeyTotal, settlement: Settlement) -> None:
        at = self._clock()
        same = settlement.home == self._peers.id
        charged = Instant(settlement.steady if same else at.steady - settlement.age_s, at.utc)
        reservation = Reservation(charged, settlement.day, settlement.charged, settlement.offline)
        total.settle(settlement.node, reservation, at, settlement.used)

    def figures_for(self, home: str, key: str) -> Figures:
        """Returns what this node has let in. From now on ``home`` is told the ends of the key's requests."""
        self._homes[key] = home
        self._asked[key] += 1
        if home != self._peers.id:
            self._totals.pop(key, None)
        return Figures.of(self._local.of(key), self._clock())

    def used_lately(self) -> Mapping[str, Figures]:
        """Returns the figures of keys that were used in the last seconds, for the heartbeat."""
        at = self._clock()
        self._used = {key: last for key, last in self._used.items() if at.steady - last < TOLD_S}
        return {key: Figures.of(self._local.of(key), at) for key in self._used}

    async def close(self) -> None:
        """Waits until homes that answer were told what has ended."""
        self._closing = True
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # The rest

    def _home(self, key: str) -> Peer | None:
        """Returns the node that counts for a key now; None: this one. No gateway alone does while a node is
        there: gateways do not know of each other."""
        here = self._peers.here
        leaving = here.draining or here.gateway
        nodes = {
            said.id: peer
            for peer in self._peers.up
            if (said := peer.snapshot) is not None and not said.draining and not said.gateway
        }
        names = [*nodes] if leaving and nodes else [*nodes, self._peers.id]
        return nodes.get(home_of(key, names))

    async def _total(self, key: str) -> KeyTotal:
        """Returns the count of a key whose home this node is, made of what all nodes say where there is none
        or another node has come."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            up = {peer.snapshot.id: peer for peer in self._peers.up if peer.snapshot is not None}
            total = self._totals.get(key)
            if total is not None:
                for member in total.members - up.keys() - {self._peers.id}:
                    total.lost(member)
                if up.keys() <= total.members:
                    return total
            ended = self._ended[key] = []
            try:
                told = await asyncio.gather(*(self._figures(*each, key, ended) for each in up.items()))
            finally:
                del self._ended[key]
            members = {id: each for id, each in zip(up, told, strict=True) if each is not None}
            members[self._peers.id] = self.figures_for(self._peers.id, key)
            gone = [each for peer in (*self._peers.all, *self._peers.forgotten) for each in peer.gone(key)]
            total = self._totals[key] = KeyTotal(members, gone, self._clock())
            for each in ended:
                if each.node != self._peers.id:  # whose figures are the latest
                    self._settle_in(total, each)
            return total

    async def _figures(self, node: str, peer: Peer, key: str, ended: list[Settlement]) -> Figures | None:
        """Asks a node for its figures; None: it is gone, or of a version that has none. Of what has
        ``ended`` there, what they have is taken out."""
        request = FiguresRequest(home=self._peers.id, key=key)
        try:
            status, answer = await peer.tell(FIGURES, request.model_dump_json().encode())
        except EngineUnavailable:
            return None
        ended[:] = [each for each in ended if each.node != node]
        return Figures.model_validate_json(answer) if status == 200 else Figures()

    async def _ask_whole(self, home: Peer, key: Key, tokens: int, *, offline: bool) -> AdmitAnswer:
        """Asks another node. What it lets in for a caller that is cancelled meanwhile is given back. Raises
        EngineUnavailable."""
        asking = asyncio.create_task(self._ask(home, key, tokens, offline=offline))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._spawn(self._give_back(asking, home, key, tokens, offline=offline))
            raise

    async def _give_back(
        self, asking: asyncio.Task[AdmitAnswer], home: Peer, key: Key, tokens: int, *, offline: bool
    ) -> None:
        with contextlib.suppress(EngineUnavailable):  # then it has let nothing in
            taken = self._taken(key, tokens, await asking, home, offline=offline)
            if isinstance(taken, Admitted):
                self.settle(key, taken.receipt, "", Spent())

    async def _ask(self, home: Peer, key: Key, tokens: int, *, offline: bool) -> AdmitAnswer:
        """Raises EngineUnavailable."""
        limits = key.limits
        request = AdmitRequest(
            node=self._peers.id,
            key=key.name,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrent_requests=limits.concurrent_requests,
            tokens_per_day=limits.tokens_per_day,
            tokens=tokens,
            offline=offline,
        )
        status, answer = await home.tell(ADMIT, request.model_dump_json().encode())
        if status != 200:
            raise EngineUnavailable(f"node {home.address} answers {status} to what a key's home is asked")
        return AdmitAnswer.model_validate_json(answer)

    def _taken(
        self, key: Key, tokens: int, found: AdmitAnswer, home: Peer | None, *, offline: bool
    ) -> Admitted | Refusal:
        """Counts here what the home has let in."""
        if found.steady is None:
            limit = cast(LimitName, found.limit)
            return Refusal(limit, found.most, found.used, found.asked, found.retry_after_s)
        at, mine = self._clock(), self._local.of(key.name)
        here = (mine.admit_offline if offline else mine.admit)(UNLIMITED, at, tokens)
        assert isinstance(here, Reservation), "there is no limit"
        id = self._peers.id if home is None or home.snapshot is None else home.snapshot.id
        self._homes[key.name] = id
        self._used[key.name] = at.steady
        left = {
            cast(Literal["requests", "tokens"], name): Left(each.limit, each.remaining, each.reset_s)
            for name, each in found.left.items()
        }
        return Admitted(_Receipt(here, id, found.steady), Remaining(at, left))

    async def _settle(self) -> None:
        """Tells homes what has ended in one turn of the event loop, and a home that does not answer again,
        unless figures that have it were asked for meanwhile."""
        await asyncio.sleep(0)
        ended, self._settling = self._settling, []
        asked = {each.key: self._asked[each.key] for each in ended}
        deadline = time.monotonic() + SETTLED_S
        while ended := await self._tell_homes(ended):
            if self._closing or time.monotonic() > deadline:
                log.info(
                    "%d ends of requests were told to no home: the next one asks for figures", len(ended)
                )
                return
            await asyncio.sleep(HEARTBEAT_S / 2)
            ended = [each for each in ended if self._asked[each.key] == asked[each.key]]

    async def _tell_homes(self, ended: Iterable[Settlement]) -> list[Settlement]:
        """Tells each home what concerns it. Returns what was not told."""
        by_home: dict[str, list[Settlement]] = {}
        for each in ended:
            by_home.setdefault(self._homes.get(each.key, self._peers.id), []).append(each)
        for each in by_home.pop(self._peers.id, []):
            self.settle_for(each)
        for peer in self._peers.up:
            home = "" if peer.snapshot is None else peer.snapshot.id
            if home in by_home:
                with contextlib.suppress(EngineUnavailable):
                    told = b"[" + b",".join(_written(by_home[home])) + b"]"
                    status, _ = await peer.tell(SETTLE, told)
                    if status == 200:
                        del by_home[home]
        return [each for untold in by_home.values() for each in untold]

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _written(settlements: Iterable[Settlement]) -> Iterable[bytes]:
    return (each.model_dump_json().encode() for each in settlements)
