"""One other node: its heartbeat, and requests to it."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import get_args

import orjson
from pydantic import BaseModel, ValidationError

from experts.engines.http_client import HttpClient, HttpResponse, TcpAddress
from experts.engines.http_connection import ConnectionEnded
from experts.errors import EngineLost, EngineUnavailable
from memory_tiers.errors import LeaseRejected, RejectionReason
from server.access.figures import Figures
from server.config.cluster import Address
from server.peers.wire import (
    ANSWER,
    CLIENT,
    HEARTBEAT,
    LOST_S,
    ORDER,
    PLACEMENT,
    PROTOCOL,
    REBALANCE,
    AnswerHead,
    ClientAnswer,
    ClientRequest,
    NodeOrder,
    NodeRequest,
    NodeSnapshot,
    PlacementNews,
    Refusal,
)

log = logging.getLogger("coe.cluster")

AGAIN_S = 0.25
"""Seconds until a node that does not answer is tried again."""
TOLD_S = 10.0
"""Most seconds until a node says that it has taken an order."""
_REASONS = get_args(RejectionReason)
_END = b"\n\n"


class NotThere(Exception):
    """The node says that it does not have the expert where it was thought to be."""


class PeerAnswer:
    """Implements ``experts.engines.engine.EngineResponse``: what another node's engine says."""

    def __init__(
        self, peer: str, head: AnswerHead, response: HttpResponse, rest: bytes, closed: Callable[[], None]
    ) -> None:
        """``rest``: bytes of the body that came with the head. ``closed`` is told once."""
        self._closed: Callable[[], None] | None = closed
        self.head = head
        self.status = head.status
        self.content_type = head.content_type
        self._peer = peer
        self._response = response
        self._rest = rest

    async def chunks(self) -> AsyncIterator[bytes]:
        events = self.content_type == "text/event-stream"
        held, self._rest = self._rest, b""
        try:
            while True:
                end = held.rfind(_END) + len(_END) if events and _END in held else 0 if events else len(held)
                if end:
                    yield held[:end]
                    held = held[end:]
                piece = await self._response.read_any()
                if not piece:
                    break
                held = held + piece if held else piece
        except ConnectionEnded as error:
            raise EngineLost(f"Node {self._peer} went away in the middle of the answer: {error}") from error
        if held:
            yield held

    async def whole(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def close(self) -> None:
        self._response.close()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()

    def __repr__(self) -> str:
        return f"<PeerAnswer of {self._peer} {self.head!r}>"


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """Another node's answer to a client's request: its head, and its body, of which ``rest`` has come."""

    head: ClientAnswer
    response: HttpResponse
    rest: bytes


class Peer:
    """A node at ``address``. ``snapshot``: what it said last; None while it does not answer."""

    def __init__(self, address: Address, place: TcpAddress, changed: Callable[[], None]) -> None:
        """``changed`` is told when it was lost, and whenever it has said something."""
        self.address = address
        self.snapshot: NodeSnapshot | None = None
        self.under_way = 0
        """Requests that it answers for this node."""
        self.under_way_then = 0
        """As many as there were when it said ``snapshot``."""
        self.is_self = False
        self.figures: dict[str, tuple[Figures, float]] = {}
        """Keeps what it told last of each key's use, and when."""
        self._figures_of = ""
        self._gone: dict[str, tuple[Figures, float]] = {}
        self._place = place
        self._changed = changed
        self._client = HttpClient(place)

    @property
    def running(self) -> int:
        """Returns how many requests it computes: as it said, and those given to it since."""
        assert self.snapshot is not None, "it answers"
        return max(0, self.snapshot.running + self.under_way - self.under_way_then)

    def gone(self, key: str) -> Iterator[Figures]:
        """Yields the figures of a key that this node cannot be asked for: those of its run before this one,
        and where it does not answer its own."""
        now = time.monotonic()
        for figures in (self._gone, self.figures if self.snapshot is None else {}):
            if key in figures:
                each, at = figures[key]
                yield each.aged(now - at)

    def remember(self, before: "Peer") -> None:
        """Takes over what was counted of the same address when it was followed before."""
        self.figures, self._gone, self._figures_of = before.figures, before._gone, before._figures_of

    def counts_today(self) -> bool:
        """Says whether anything that it has let in may count on today: clocks differ."""
        yesterday = int(time.time() // 86400) - 1
        told = (*self.figures.values(), *self._gone.values())
        return any(each.day >= yesterday and each.day_tokens > 0 for each, _ in told)

    async def watch(self, own_id: str, most_s: float = math.inf) -> None:
        """Follows its heartbeat for ever, or until it proves to be this node itself, or was lost for
        ``most_s``."""
        why_before, tries = "", 0
        while not self.is_self and tries * AGAIN_S < most_s:
            why = "it ends its heartbeat"
            try:
                await self._follow(own_id)
            except (ConnectionEnded, ValidationError) as error:
                why = str(error).partition("\n")[0]
            except TimeoutError:
                why = f"nothing was heard of it for {LOST_S:g} s"
            tries = 0 if self.snapshot is not None else tries + 1
            if self.snapshot is not None or why != why_before:
                log.warning("node %s does not answer: %s", self.address, why)
            why_before = why
            await self._lost()
            await asyncio.sleep(AGAIN_S)

    async def ask(self, request: NodeRequest) -> PeerAnswer:
        """Sends the request, and waits for the beginning of its answer. Raises NotThere, LeaseRejected,
        EngineUnavailable: the client has seen nothing in any case."""
        self.under_way += 1
        try:
            response = await self._client.request("POST", ANSWER, orjson.dumps(dict(request)), again=True)
            try:
                return await self._begun(response)
            except BaseException:
                response.close()
                raise
        except BaseException as error:
            self._answered()
            if isinstance(error, ConnectionEnded | ValidationError):
                raise EngineUnavailable(f"Node {self.address} gave no answer: {error}") from error
            raise

    def _answered(self) -> None:
        self.under_way -= 1

    async def want(self, order: NodeOrder) -> str:
        """Has the node bring an expert to a tier. Returns why it does not; empty: it does."""
        return await self._told(ORDER, order)

    async def follow(self, news: PlacementNews) -> str:
        """Tells the node what this one, which places experts, says. Returns why it does not follow."""
        return await self._told(PLACEMENT, news)

    async def rebalance(self) -> str:
        """Has the node spread experts evenly. Returns why it does not."""
        return await self._told(REBALANCE, None)

    async def _told(self, path: str, what: BaseModel | None) -> str:
        body = b"{}" if what is None else what.model_dump_json().encode()
        try:
            async with asyncio.timeout(TOLD_S):
                response = await self._client.request("POST", path, body)
                with contextlib.closing(response):
                    said = await response.read()
            return "" if response.status == 202 else Refusal.model_validate_json(said).message
        except TimeoutError:
            return f"it did not answer within {TOLD_S:g} s"
        except (ConnectionEnded, ValidationError) as error:
            return str(error)

    async def ask_for_client(self, request: ClientRequest, body: bytes) -> KeptAnswer:
        """Asks for what the node may have kept; the caller closes the answer. Raises EngineUnavailable."""
        sent = request.model_dump_json().encode() + b"\n" + body
        try:
            response = await self._client.request("POST", CLIENT, sent)
            try:
                if response.status != 200:
                    raise ConnectionEnded(f"it answers {response.status}")
                line, rest = await _line(response, b"")
                return KeptAnswer(ClientAnswer.model_validate_json(line), response, rest)
            except BaseException:
                response.close()
                raise
        except (ConnectionEnded, ValidationError) as error:
            raise EngineUnavailable(f"Node {self.address} gave no answer: {error}") from error

    async def tell(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Posts to one of its paths; returns the status and the whole answer. Raises EngineUnavailable."""
        try:
            response = await self._client.request("POST", path, body, again=True)
            with contextlib.closing(response):
                return response.status, await response.read()
        except ConnectionEnded as error:
            raise EngineUnavailable(f"Node {self.address} gave no answer: {error}") from error

    async def _begun(self, response: HttpResponse) -> PeerAnswer:
        """Raises ConnectionEnded, ValidationError beside what ``ask`` does."""
        if response.status != 200:
            said = Refusal.model_validate_json(await response.read())
            if response.status == 409:
                raise NotThere(said.message)
            if said.reason in _REASONS:
                raise LeaseRejected(said.reason, said.message, said.retry_after_s)  # type: ignore[arg-type]
            raise EngineUnavailable(f"Node {self.address}: {said.message}")
        line, rest = await _line(response, b"")
        head = AnswerHead.model_validate_json(line)
        return PeerAnswer(str(self.address), head, response, rest, self._answered)

    async def _follow(self, own_id: str) -> None:
        """Takes in snapshots as they come. Raises ConnectionEnded, TimeoutError, ValidationError."""
        async with asyncio.timeout(LOST_S):
            response = await self._client.request("GET", HEARTBEAT)
        with contextlib.closing(response):
            if response.status != 200:
                raise ConnectionEnded(f"it answered {response.status}: do both have the same cluster.secret?")
            rest = b""
            while True:
                async with asyncio.timeout(LOST_S):
                    line, rest = await _line(response, rest)
                self._heard(NodeSnapshot.model_validate_json(line), own_id)
                if self.is_self:
                    return

    def _heard(self, snapshot: NodeSnapshot, own_id: str) -> None:
        """Raises ConnectionEnded."""
        if snapshot.id == own_id:
            self.is_self = True
            return
        if abs(snapshot.protocol - PROTOCOL) > 1:
            raise ConnectionEnded(
                f"it speaks version {snapshot.protocol} of the nodes' protocol and this node {PROTOCOL}: "
                "they may differ by one, so update in between"
            )
        back = self.snapshot is None
        if self._figures_of != snapshot.id:  # it was started anew, and has read its own usage of the day
            self.figures = {key: (each.minute, at) for key, (each, at) in self.figures.items()}
            self._figures_of, self._gone, self.figures = snapshot.id, self.figures, {}
        now = time.monotonic()
        self.figures.update({key: (each, now) for key, each in snapshot.used.items()})
        self.snapshot, self.under_way_then = snapshot, self.under_way
        if back:
            log.info("node %s answers", self.address)
        self._changed()

    async def _lost(self) -> None:
        """Ends all that is under way there: what has not begun is asked elsewhere."""
        client, self._client = self._client, HttpClient(self._place)
        answered, self.snapshot = self.snapshot is not None, None
        await client.close()
        if answered:
            self._changed()

    async def close(self) -> None:
        await self._client.close()

    def __repr__(self) -> str:
        state = "this node" if self.is_self else "lost" if self.snapshot is None else "up"
        return f"<Peer {self.address} [{state}, under way: {self.under_way}]>"


async def _line(response: HttpResponse, held: bytes) -> tuple[bytes, bytes]:
    """Reads to the end of a line; returns it, and what came after. Raises ConnectionEnded."""
    while b"\n" not in held:
        piece = await response.read_any()
        if not piece:
            raise ConnectionEnded("it ended in the middle of a line")
        held += piece
    line, _, rest = held.partition(b"\n")
    return line, rest
