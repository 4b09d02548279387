"""All other nodes, and in which order they are asked for an expert."""

import asyncio
import contextlib
import hashlib
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from cluster.choice import Candidate, in_order
from cluster.election import Seniority
from experts.engines.http_client import TcpAddress
from server.config.cluster import Address, ClusterConfig
from server.peers.changes import Changes
from server.peers.demand import Demand
from server.peers.followed import Followed
from server.peers.identity import Identity
from server.peers.peer import Peer
from server.peers.wire import LISTENS_AT, NodeSnapshot

HERE = ""
"""Name of this node among the candidates."""
REMEMBERED = 10_000
"""Conversations whose node is remembered."""
FORGOTTEN_S = 60.0
"""Seconds after which a node that is lost is forgotten, if it is in no list."""
REQUEST_S = 0.005
"""Seconds by which each request that a node computes is taken to slow down one more."""
WAITING_S = 0.05
"""Seconds by which each request that waits for the expert is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A node to ask: another one, or None for this one. ``snapshot``: what it was chosen by."""

    peer: Peer | None
    snapshot: NodeSnapshot


@dataclass(frozen=True, slots=True)
class Holder:
    """A node to read an expert's files from. ``whole``: it has them all, and is not just getting them."""

    address: Address
    whole: bool


class Peers:
    """The other nodes of the configuration, watched from ``peering``'s beginning to its end."""

    def __init__(
        self,
        config: ClusterConfig,
        identity: Identity,
        here: Callable[[], NodeSnapshot],
        own: Seniority,
        chance: random.Random | None = None,
    ) -> None:
        """``here``: what this node would say about itself now; ``own``: its own id, and its run."""
        self.id = own.id
        self.followed = Followed(own)
        """The placement that this node follows."""
        self.demand = Demand()
        self.leaving = False
        """Whether this node gives away what it holds, and then ends: others are not to ask it any more."""
        self.changed = Changes()
        """Wakes those who wait whenever a node was lost, or has said something."""
        self.depart: Callable[[], None] = lambda: None
        """Begins to give away what only this node holds; then it ends."""
        self.even_out: Callable[[], bool] = lambda: False
        """Spreads experts evenly; False: another node decides that."""
        self.weights_rate: Callable[[], float | None] = lambda: None
        """Bytes/s of weights from other nodes; None: not measured."""
        self.forgotten: tuple[Peer, ...] = ()
        """Nodes that are followed no more, of which it is remembered what they let in today."""
        self._sources: dict[str, str] = {}
        self._here = here
        self._chance = chance or random.Random()
        self._conversations: OrderedDict[bytes, str] = OrderedDict()
        context = identity.context("client")
        headers = f"authorization: Bearer {identity.token}\r\n"
        self._listens_at = config.address or str(Address(config.host, config.port))
        self._config, self._context = config, context
        self._watching: dict[Peer, asyncio.Task[None]] | None = None
        if config.address is not None:
            headers += f"{LISTENS_AT}: {config.address}\r\n"
        self._headers = headers
        self.all: tuple[Peer, ...] = tuple(self._peer(Address.parse(each)) for each in config.peers)

    def __repr__(self) -> str:
        return f"<Peers {list(self.all)!r}>"

    def _peer(self, address: Address) -> Peer:
        context = self._context if self._config.encrypted(address) else None
        place = TcpAddress(address.host, address.port, context, self._headers)
        return Peer(address, place, self.changed.note)

    def met(self, address: Address) -> None:
        """Follows a node that follows this one, if it is not known: until it is lost for ``FORGOTTEN_S``."""
        if any(peer.address == address for peer in self.all) or str(address) == self._listens_at:
            return
        peer = self._peer(address)
        before = [each for each in self.forgotten if each.address == address]
        for each in before:
            peer.remember(each)
        self.forgotten = tuple(each for each in self.forgotten if each not in before)
        self.all = (*self.all, peer)
        if self._watching is not None:
            self._watching[peer] = asyncio.create_task(self._follow_met(peer), name=f"watch node {address}")

    async def _follow_met(self, peer: Peer) -> None:
        await peer.watch(self.id, FORGOTTEN_S)
        self.all = tuple(each for each in self.all if each is not peer)
        self.forgotten = tuple(each for each in (*self.forgotten, peer) if each.counts_today())
        if self._watching is not None:
            self._watching.pop(peer, None)
        self.changed.note()
        await peer.close()

    async def watch(self) -> None:
        """Begins to follow all nodes."""
        self._watching = {
            peer: asyncio.create_task(peer.watch(self.id), name=f"watch node {peer.address}")
            for peer in self.all
        }

    async def close(self) -> None:
        """Follows none any more, and closes the connections."""
        tasks = [] if self._watching is None else [*self._watching.values()]
        self._watching = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in self.all:
            await peer.close()

    @property
    def up(self) -> Sequence[Peer]:
        """Returns the nodes that answer."""
        return [peer for peer in self.all if peer.snapshot is not None]

    @property
    def with_engines(self) -> Sequence[Peer]:
        """Returns the nodes that answer and are no gateways alone: one that drains comes last, one that
        computes little first."""
        said = [(peer.snapshot, peer) for peer in self.up if peer.snapshot is not None]
        nodes = [(each.draining, peer.running, peer) for each, peer in said if not each.gateway]
        return [peer for *_, peer in sorted(nodes, key=lambda node: node[:2])]

    @property
    def others(self) -> Sequence[Peer]:
        """Returns the nodes of the configuration that are not known to be this one."""
        return [peer for peer in self.all if not peer.is_self]

    @property
    def address(self) -> str:
        """Returns where other nodes reach this one, if that is known, or else where it listens."""
        return next((str(peer.address) for peer in self.all if peer.is_self), self._listens_at)

    @property
    def here(self) -> NodeSnapshot:
        """Returns what this node says about itself now."""
        return self._here()

    def in_order(self, expert: str, conversation: bytes) -> list[Choice]:
        """Returns the nodes that may be asked for ``expert``, the best first: this one is among them. A node
        that drains, or does not have the expert configured, is not, unless no other is."""
        here = self._here()
        choices = {HERE: Choice(None, here)}
        choices |= {str(peer.address): Choice(peer, peer.snapshot) for peer in self.up if peer.snapshot}
        affine = self._conversations.get(conversation)
        candidates = [
            self._candidate(name, choice, expert, affine)
            for name, choice in choices.items()
            if expert in choice.snapshot.experts and not choice.snapshot.draining
        ]
        if not candidates:
            return [choices[HERE]]
        return [choices[candidate.node] for candidate in in_order(candidates, self._chance)]

    def comes_from(self, expert: str, source: str) -> None:
        """Notes from which node the expert is to be read first."""
        self._sources[expert] = source

    def holders(self, expert: str) -> list[Holder]:
        """Returns the nodes from whose host memory the expert can be read: the one that was named first,
        which may be getting it just now, then those that compute the least. None where none has all of it."""
        named = self._sources.get(expert, "")
        giving: list[tuple[bool, int, Holder]] = []
        for peer in self.all:  # read by threads: what it said may be gone the next moment
            said = peer.snapshot
            place = said.experts.get(expert) if said is not None else None
            if said is None or place is None:
                continue
            later = str(peer.address) != named
            if place.gives or not later:
                giving.append((later, said.running, Holder(peer.address, place.gives)))
        if not any(holder.whole for *_, holder in giving):
            return []
        return [holder for *_, holder in sorted(giving, key=lambda each: each[:2])]

    def wait_s(self, expert: str) -> float:
        """Predicts how long a request for ``expert`` waits that is asked now."""
        choices = {HERE: Choice(None, self._here())}
        choices |= {str(peer.address): Choice(peer, peer.snapshot) for peer in self.up if peer.snapshot}
        candidates = [
            self._candidate(name, choice, expert, None)
            for name, choice in choices.items()
            if expert in choice.snapshot.experts and not choice.snapshot.draining
        ]
        return min((each.resident_s + each.queue_s for each in candidates), default=0.0)

    async def rebalance(self) -> str:
        """Has the node that decides spread experts evenly. Returns why it does not; empty: it does."""
        if self.even_out():
            return ""
        placer = self.followed.election.placer
        for peer in self.up:
            if peer.snapshot is not None and peer.snapshot.id == placer:
                return await peer.rebalance()
        return "no node decides where experts go now: cluster.placement is off, or nodes have only begun"

    def answered(self, conversation: bytes, choice: Choice) -> None:
        """Remembers which node has answered the conversation."""
        self._conversations[conversation] = HERE if choice.peer is None else str(choice.peer.address)
        self._conversations.move_to_end(conversation)
        if len(self._conversations) > REMEMBERED:
            self._conversations.popitem(last=False)

    def _candidate(self, name: str, choice: Choice, expert: str, affine: str | None) -> Candidate:
        place = choice.snapshot.experts[expert]
        running = choice.snapshot.running if choice.peer is None else choice.peer.running
        queue_s = REQUEST_S * running + WAITING_S * place.waiting
        full = place.tier != "device" and place.bytes > choice.snapshot.device_free
        return Candidate(name, place.seconds, queue_s, affine == name, place.seconds if full else 0.0)


def conversation_of(body: dict[str, Any]) -> bytes:
    """Tells conversations apart by how they begin: their first two messages, or the prompt's beginning."""
    messages = body.get("messages")
    began = messages[:2] if isinstance(messages, list) else str(body.get("prompt", ""))[:512]
    return hashlib.blake2b(orjson.dumps(began, default=str), digest_size=16).digest()


@contextlib.asynccontextmanager
async def watching(peers: Peers) -> AsyncIterator[None]:
    """Watches the nodes until it is left, and closes the connections to them."""
    await peers.watch()
    try:
        yield
    finally:
        await peers.close()
