"""The private paths of a node, for other nodes alone."""

import asyncio
import hmac
import logging
from collections.abc import Awaitable
from urllib.parse import parse_qs

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from experts.errors import EngineError, EngineUnavailable
from memory_tiers.errors import LeaseRejected, TiersError
from memory_tiers.lease import Lease
from memory_tiers.tiers import HEIGHT
from server.config.api_keys import Limits
from server.config.cluster import Address
from server.error_table import rendering_of
from server.errors import BadRequest, GatewayError, ShuttingDown, Unauthorized
from server.exchange.engine.call import EngineRequest, open_answer
from server.node.kept_elsewhere import ForClients
from server.node.key_homes import KeyHomes
from server.node.obedience import obey
from server.node.prepared_experts import prepared
from server.node.self_description import FRESH_S, SelfDescription
from server.node.weights_served import WeightsServed
from server.peers.peers import Peers
from server.peers.wire import (
    ADMIT,
    ANSWER,
    CLIENT,
    FIGURES,
    HEARTBEAT,
    HEARTBEAT_S,
    LISTENS_AT,
    ORDER,
    PLACEMENT,
    PREPARED,
    REBALANCE,
    SETTLE,
    SUMS,
    WEIGHTS,
    AdmitAnswer,
    AdmitRequest,
    AnswerHead,
    ClientRequest,
    FiguresRequest,
    NodeOrder,
    NodeRequest,
    PlacementNews,
    Refusal,
    Settled,
    Settlement,
)
from server.services import NodeServices
from server.transport.body_limits import read_body
from server.transport.disconnect import DISCONNECT, Disconnect, while_connected
from server.transport.streaming import send_end, send_part, send_start

log = logging.getLogger("coe.cluster")

ENVELOPE = 2**16
"""Most bytes of a node's request beside the body that its client sent."""
MOST_NEWS = 2**26
"""Most bytes of a table: some 100 for each copy of an expert."""
_SETTLEMENTS = TypeAdapter(list[Settlement])


class NodeApp:
    """ASGI application that takes requests from nodes with the shared secret, and from nobody else."""

    def __init__(
        self,
        services: NodeServices,
        peers: Peers,
        description: SelfDescription,
        homes: KeyHomes,
        clients: ForClients,
        token: str,
    ) -> None:
        """``homes``: limits of keys over all nodes; ``clients``: answers clients of other nodes."""
        self._services = services
        self._peers = peers
        self._description = description
        self._homes = homes
        self._clients = clients
        self._authorization = f"Bearer {token}".encode()
        self._weights = WeightsServed(services.tiers.host_copy, services.tiers.arriving)
        self._under_way: dict[str, Disconnect] = {}
        """Requests that are computed for other nodes, by their ids."""

    def __repr__(self) -> str:
        return f"<NodeApp [under way: {len(self._under_way)}]>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, self._authorization):
            await _refuse(send, Unauthorized("This is for nodes with the same cluster.secret."))
            return
        match scope["method"], scope["path"]:
            case "GET", path if path == HEARTBEAT:
                self._meet(scope)
                await while_connected(self._beat(send), scope[DISCONNECT])
            case "POST", path if path == ANSWER:
                await self._answer(Request(scope, receive), send)
            case "POST", path if path == ORDER:
                await self._order(Request(scope, receive), send)
            case "GET", path if path in (WEIGHTS, SUMS):
                give = self._weights.send_range if path == WEIGHTS else self._weights.send_sums
                try:
                    await while_connected(give(scope, send), scope[DISCONNECT])
                except BadRequest as error:
                    await _refuse(send, error, 404)
            case "GET", path if path == PREPARED:
                await self._prepared(scope, send)
            case "POST", path if path == PLACEMENT:
                await self._placement(Request(scope, receive), send)
            case "POST", path if path == REBALANCE:
                if self._peers.even_out():
                    await _accepted(send)
                else:
                    await _refuse(send, BadRequest("this node does not place experts"), 409)
            case "POST", path if path == CLIENT:
                await self._for_client(scope, receive, send)
            case "POST", path if path in (ADMIT, SETTLE, FIGURES):
                await self._count(path, Request(scope, receive), send)
            case method, path:
                await _refuse(send, BadRequest(f"{method} {path} is nothing that nodes ask each other."), 404)

    def _meet(self, scope: Scope) -> None:
        """Has this node follow one that follows it."""
        said = next((value for name, value in scope["headers"] if name == LISTENS_AT.encode()), None)
        if said is not None:
            try:
                self._peers.met(Address.parse(said.decode("latin-1")))
            except ValueError as error:
                log.warning("a node says where it listens: %s", error)

    async def _beat(self, send: Send) -> None:
        await send_start(send, 200, {"content-type": "application/jsonl"})
        while self._under_way or not self._services.draining:
            await send_part(send, self._description.now().model_dump_json().encode() + b"\n")
            await self._services.residency.next(HEARTBEAT_S)
            await asyncio.sleep(FRESH_S)  # what moves together is told together
        await send_end(send)

    async def _answer(self, request: Request, send: Send) -> None:
        try:
            raw = await read_body(request, self._services.settings.server.max_body + ENVELOPE)
            asked = NodeRequest.model_validate(orjson.loads(raw))
        except ClientDisconnect:
            return
        except (orjson.JSONDecodeError, ValidationError) as error:
            await _refuse(send, BadRequest(f"This is no request of a node: {error}"))
            return
        except GatewayError as error:
            await _refuse(send, error)
            return
        disconnect: Disconnect = request.scope[DISCONNECT]
        earlier = self._under_way.get(asked.id)
        if earlier is not None:  # who asks again has given up on what it asked before
            earlier.notice()
        self._under_way[asked.id] = disconnect
        try:
            await while_connected(self._compute(asked, send, disconnect), disconnect)
        finally:
            if self._under_way.get(asked.id) is disconnect:
                del self._under_way[asked.id]

    async def _order(self, request: Request, send: Send) -> None:
        try:
            order = NodeOrder.model_validate_json(await read_body(request, ENVELOPE))
            election = self._peers.followed.election
            if order.term and not election.follows(order.term, order.placer):
                await _refuse(
                    send, BadRequest(f"another placement is followed, in term {election.term}"), 409
                )
                return
            obey(self._services.tiers, self._peers, order)
        except ClientDisconnect:
            return
        except ValidationError as error:
            await _refuse(send, BadRequest(f"This is no order of a node: {error}"))
        except (GatewayError, TiersError) as error:
            await _refuse(send, error)
        else:
            await _accepted(send)

    async def _prepared(self, scope: Scope, send: Send) -> None:
        name = parse_qs(scope["query_string"].decode("latin-1")).get("name", [""])[0]
        try:
            found = await asyncio.to_thread(prepared, self._services.settings, name)
        except BadRequest as error:
            await _refuse(send, error, 404)
        else:
            await _told(send, found)

    async def _placement(self, request: Request, send: Send) -> None:
        try:
            news = PlacementNews.model_validate_json(await read_body(request, MOST_NEWS))
        except ClientDisconnect:
            return
        except ValidationError as error:
            await _refuse(send, BadRequest(f"This is no table of a node: {error}"))
            return
        except GatewayError as error:
            await _refuse(send, error)
            return
        taken = self._peers.followed.take(news)
        if taken == "taken":
            await _accepted(send)
        else:
            term = self._peers.followed.election.term
            why = f"term {term} is followed" if taken == "old" else "tables were missed: all is needed"
            await _refuse(send, BadRequest(why), 409)

    async def _for_client(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a client of another node, for what may be kept here."""
        try:
            raw = await read_body(Request(scope, receive), self._services.settings.server.max_body + ENVELOPE)
            line, _, body = raw.partition(b"\n")
            asked = ClientRequest.model_validate_json(line)
        except ClientDisconnect:
            return
        except ValidationError as error:
            await _refuse(send, BadRequest(f"This is no request of a client: {error}"))
        except GatewayError as error:
            await _refuse(send, error)
        else:
            await self._clients.answer(asked, body, scope, receive, send)

    async def _count(self, path: str, request: Request, send: Send) -> None:
        """Answers what other nodes ask the home of a key, and what it asks them."""
        try:
            raw = await read_body(request, self._services.settings.server.max_body)
            match path:
                case path if path == ADMIT:
                    answer: BaseModel = await self._admit(AdmitRequest.model_validate_json(raw))
                case path if path == FIGURES:
                    asked = FiguresRequest.model_validate_json(raw)
                    answer = self._homes.figures_for(asked.home, asked.key)
                case _:
                    for each in _SETTLEMENTS.validate_json(raw):
                        self._homes.settle_for(each)
                    answer = Settled()
        except ClientDisconnect:
            return
        except ValidationError as error:
            await _refuse(send, BadRequest(f"This is nothing that a key's home is asked: {error}"))
        except EngineUnavailable as error:
            await _refuse(send, error, 409)
        except GatewayError as error:
            await _refuse(send, error)
        else:
            await _told(send, answer)

    def _admit(self, asked: AdmitRequest) -> Awaitable[AdmitAnswer]:
        limits = Limits(
            asked.requests_per_minute,
            asked.tokens_per_minute,
            asked.concurrent_requests,
            asked.tokens_per_day,
        )
        return self._homes.admit_for(asked.node, asked.key, limits, asked.tokens, offline=asked.offline)

    async def _compute(self, asked: NodeRequest, send: Send, disconnect: Disconnect) -> None:
        services = self._services
        expert = services.experts.get(asked.expert)
        if services.draining:
            await _refuse(send, ShuttingDown("This node is shutting down."))
            return
        if expert is None or HEIGHT[services.tiers.tier(asked.expert)] < HEIGHT[asked.at_least]:
            why = "is not configured here" if expert is None else f"is not on the {asked.at_least} any more"
            await _refuse(send, BadRequest(f"expert {asked.expert} {why}"), 409)
            return
        leases: list[Lease] = []
        try:
            answer = await open_answer(
                services.tiers,
                services.breakers,
                EngineRequest(expert, asked.path, asked.body),
                leases.append,
                whole=asked.whole,
                fail_fast=asked.fail_fast,
                priority=asked.priority,
            )
        except Exception as error:  # noqa: BLE001  # told to who asked; an unmapped one is logged
            await _refuse(send, error)
            return
        lease = leases[-1]
        head = AnswerHead(
            status=answer.status,
            content_type=answer.answer.content_type,
            tier=lease.tier,
            queue_seconds=lease.queue_seconds,
            swap_seconds=lease.swap_seconds,
        )
        try:
            async with answer:
                await send_start(send, 200, {"content-type": "application/octet-stream"})
                await send_part(send, head.model_dump_json().encode() + b"\n" + answer.head)
                async for chunk in answer.rest:
                    await send_part(send, chunk)
        except EngineError as error:
            log.warning("an answer for another node ends in its middle: %s", error)
            disconnect.cut()  # by which who asked knows
            return
        await send_end(send)


async def _accepted(send: Send) -> None:
    await send_start(send, 202, {"content-length": "0"})
    await send_end(send)


async def _told(send: Send, answer: BaseModel) -> None:
    body = answer.model_dump_json().encode()
    await send_start(send, 200, {"content-type": "application/json", "content-length": str(len(body))})
    await send_end(send, body)


async def _refuse(send: Send, error: Exception, status: int | None = None) -> None:
    reason = type(error).__name__
    retry_after_s = None
    if isinstance(error, LeaseRejected):
        reason, retry_after_s = error.reason, error.retry_after_s
    elif isinstance(error, ShuttingDown):
        reason = "shutting_down"
    body = Refusal(reason=reason, message=str(error), retry_after_s=retry_after_s).model_dump_json().encode()
    status = status or rendering_of(error).status
    if status == 500:
        log.error("a node's request failed", exc_info=error)
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    await send_start(send, status, headers)
    await send_end(send, body)
