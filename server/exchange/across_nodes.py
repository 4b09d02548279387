"""Opens an answer on the node where it costs least, and elsewhere while nothing of it has come."""

import uuid
from collections.abc import Callable, Coroutine
from functools import partial

from experts.errors import EngineLost, EngineUnavailable
from memory_tiers.errors import LeaseRejected
from memory_tiers.lease import Lease
from memory_tiers.tiers import Tier
from server.errors import BreakerOpen
from server.exchange.arrival import Terms
from server.exchange.engine.call import EngineRequest, OpenAnswer, first_bytes, open_answer
from server.peers.peer import NotThere, Peer
from server.peers.peers import Choice, Peers, conversation_of
from server.peers.wire import NodeRequest
from server.resilience.circuit_breakers import Breakers
from server.services import Services

ELSEWHERE = frozenset({"queue_full", "load_failed", "engine_failed", "shutting_down", "not_resident"})
"""Reasons to reject a ticket that are a node's own: another may have none."""
_NEVER_OPEN = Breakers(failures=0, cool_down_s=1.0)
"""A node has breakers of its own: what fails there says nothing about the engines here."""

Leased = Callable[[Lease], None]


def open_here(
    services: Services, sent: EngineRequest, terms: Terms, leased: Leased, *, whole: bool
) -> Coroutine[None, None, OpenAnswer]:
    """Opens the answer to ``sent`` on this node: see ``open_answer``."""
    return open_answer(
        services.tiers,
        services.breakers,
        sent,
        leased,
        whole=whole,
        fail_fast=terms.fail_fast,
        priority=terms.priority,
    )


async def open_on_some_node(
    services: Services, sent: EngineRequest, terms: Terms, leased: Leased, *, whole: bool
) -> OpenAnswer:
    """Opens the answer to ``sent`` as ``open_answer`` does, on this node or on another. One that turns out
    not to have the expert, to be gone, or to have no place, is passed over; nothing has reached the client by
    then. Raises what ``open_answer`` does, of the node that was asked last."""
    assert services.peers is not None, "there are others"
    id = uuid.uuid4().hex  # not the request's own, which its client may have chosen
    ask = partial(_ask, services, sent, terms, leased, id, whole=whole)
    conversation = conversation_of(dict(sent.body))
    services.peers.demand.asked(sent.expert.name)
    choices = services.peers.in_order(sent.expert.name, conversation)
    moved: list[Choice] = []
    failed: Exception | None = None
    for choice in choices:
        try:
            return _remember(services.peers, conversation, choice, await ask(choice, strict=True))
        except NotThere:
            moved.append(choice)
        except (EngineUnavailable, EngineLost, BreakerOpen, LeaseRejected) as error:
            if isinstance(error, LeaseRejected) and error.reason not in ELSEWHERE:
                raise
            failed = error
    for choice in moved:  # it left there meanwhile, and it is nowhere else: there it is loaded again
        try:
            return _remember(services.peers, conversation, choice, await ask(choice, strict=False))
        except NotThere as error:
            failed = EngineUnavailable(str(error))
        except (EngineUnavailable, LeaseRejected) as error:
            failed = error
    assert failed is not None, "one node at least was asked"
    raise failed


def _remember(peers: Peers, conversation: bytes, choice: Choice, answer: OpenAnswer) -> OpenAnswer:
    peers.answered(conversation, choice)
    return answer


async def _ask(
    services: Services,
    sent: EngineRequest,
    terms: Terms,
    leased: Leased,
    id: str,
    choice: Choice,
    *,
    strict: bool,
    whole: bool,
) -> OpenAnswer:
    """Asks one node. ``strict``: it refuses if the expert has left the device since it said so."""
    if choice.peer is None and choice.snapshot.gateway:
        raise EngineUnavailable(f"No node that has expert {sent.expert.name} answers this gateway.")
    if choice.peer is None:
        return await open_here(services, sent, terms, leased, whole=whole)
    place = choice.snapshot.experts[sent.expert.name]
    tier: Tier = place.tier if strict else "disk"
    request = NodeRequest(
        id=id,
        expert=sent.expert.name,
        path=sent.path,
        body=dict(sent.body),
        whole=whole,
        fail_fast=terms.fail_fast,
        priority=terms.priority,
        at_least=tier,
    )
    return await _opened(services, sent, choice.peer, request, leased)


async def _opened(
    services: Services, sent: EngineRequest, peer: Peer, request: NodeRequest, leased: Leased
) -> OpenAnswer:
    answer = await peer.ask(request)
    try:
        head, rest = await first_bytes(answer, request.whole)
        engine = services.engines.get(sent.expert.family)  # of its family here; the other node's has answered
        if engine is None:
            raise EngineUnavailable(f"The engine of family {sent.expert.family} was removed.")
    except BaseException:
        await answer.close()
        raise
    found = answer.head
    lease = Lease(sent.expert.name, engine, found.tier, found.queue_seconds, found.swap_seconds, lambda: None)
    leased(lease)
    return OpenAnswer(sent, lease, answer, head, rest, _NEVER_OPEN.enter(sent.expert))
