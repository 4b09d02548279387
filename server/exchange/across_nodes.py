"""Opens an answer on the node where it costs least, and elsewhere while nothing of it has come."""

import time
import uuid
from collections.abc import Callable, Coroutine, Sequence, Set
from functools import partial
from typing import Protocol

from experts.errors import EngineLost, EngineUnavailable
from memory_tiers.errors import LeaseRejected
from memory_tiers.lease import Lease
from memory_tiers.tiers import Tier
from server.errors import BreakerOpen
from server.exchange.arrival import Terms
from server.exchange.engine.call import EngineRequest, OpenAnswer, first_bytes, open_answer
from server.peers.peer import NotThere, Peer
from server.peers.peers import Choice, conversation_of
from server.peers.wire import LOST_S, NodeRequest
from server.resilience.circuit_breakers import Breakers
from server.services import Services

ELSEWHERE = frozenset({"queue_full", "load_failed", "engine_failed", "shutting_down", "not_resident"})
"""Reasons to reject a ticket that are a node's own: another may have none."""
HEARD_S = LOST_S
"""Seconds within which a node that has just begun is heard of."""
_NEVER_OPEN = Breakers(failures=0, cool_down_s=1.0)
"""A node has breakers of its own: what fails there says nothing about the engines here."""

Leased = Callable[[Lease], None]


class Ask(Protocol):
    """Asks one node. ``strict``: it refuses if the expert has left the device since it said so."""

    async def __call__(self, choice: Choice, *, strict: bool) -> OpenAnswer: ...


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
    not to have the expert, to be gone, or to have no place, is passed over, and one that came meanwhile is
    asked; nothing has reached the client by then. A gateway without engines waits ``HEARD_S`` for one to
    come. Raises what ``open_answer`` does, of the node that was asked last."""
    assert services.peers is not None, "there are others"
    id = uuid.uuid4().hex  # not the request's own, which its client may have chosen
    ask = partial(_ask, services, sent, terms, leased, id, whole=whole)
    peers, conversation = services.peers, conversation_of(dict(sent.body))
    peers.demand.asked(sent.expert.name)
    patient_until = time.monotonic() + (0 if services.settings.computes or terms.fail_fast else HEARD_S)
    asked: set[Peer | None] = set()
    failed: Exception | None = None
    while True:
        choices = [each for each in peers.in_order(sent.expert.name, conversation) if each.peer not in asked]
        asked.update(choice.peer for choice in choices)
        if choices:
            try:
                choice, answer = await _first_that_answers(choices, ask)
            except (EngineUnavailable, EngineLost, BreakerOpen, LeaseRejected) as error:
                if isinstance(error, LeaseRejected) and error.reason not in ELSEWHERE:
                    raise
                failed = error
            else:
                peers.answered(conversation, choice)
                return answer
        elif _others_may_come(asked, failed) and (left_s := patient_until - time.monotonic()) > 0:
            await peers.changed.next(left_s)
        else:
            assert failed is not None, "one node at least was asked"
            raise failed


def _others_may_come(asked: Set[Peer | None], failed: Exception | None) -> bool:
    """Says whether no node had the expert, or the last one that had it ends."""
    return None in asked or (isinstance(failed, LeaseRejected) and failed.reason == "shutting_down")


async def _first_that_answers(choices: Sequence[Choice], ask: Ask) -> tuple[Choice, OpenAnswer]:
    """Asks one node after the other. Raises what ``open_answer`` does, of the one that was asked last."""
    moved: list[Choice] = []
    failed: Exception | None = None
    for choice in choices:
        try:
            return choice, await ask(choice, strict=True)
        except NotThere:
            moved.append(choice)
        except (EngineUnavailable, EngineLost, BreakerOpen, LeaseRejected) as error:
            if isinstance(error, LeaseRejected) and error.reason not in ELSEWHERE:
                raise
            failed = error
    for choice in moved:  # it left there meanwhile, and it is nowhere else: there it is loaded again
        try:
            return choice, await ask(choice, strict=False)
        except NotThere as error:
            failed = EngineUnavailable(str(error))
        except (EngineUnavailable, LeaseRejected) as error:
            failed = error
    assert failed is not None, "one node at least was asked"
    raise failed


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
    """Asks one node: see ``Ask``."""
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
