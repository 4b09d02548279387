"""Tells the clients of waiting tickets how these ended, and observes it."""

import itertools
from collections.abc import Callable, Iterable, Mapping

from experts.engines.engine import Engine
from experts.spec import Expert
from memory_tiers.actions import Grant, Reject
from memory_tiers.driver.replicas import wake_seconds
from memory_tiers.driver.ticket import Ticket
from memory_tiers.errors import LeaseRejected
from memory_tiers.events import Event, LeaseReleased, TicketCancelled
from memory_tiers.lease import Lease
from memory_tiers.move_costs import MoveCosts
from memory_tiers.observations import LeaseEnded, LeaseGranted, Observation, TicketEnded, TicketOutcome
from memory_tiers.tiers import Tier


class Tickets:
    """Holds the tickets that wait. Each ends once: with a lease, with a refusal, or because its client
    left."""

    def __init__(
        self,
        experts: Mapping[str, Expert],
        engines: Mapping[str, Engine],
        costs: MoveCosts,
        feed: Callable[[Event], None],
        observe: Callable[[Observation], None],
        clock: Callable[[], float],
    ) -> None:
        self._experts = experts
        self._engines = engines
        self._costs = costs
        self._feed = feed
        self._observe = observe
        self._clock = clock
        self._numbers = itertools.count(1)
        self._tickets: dict[int, Ticket] = {}

    def __repr__(self) -> str:
        return f"<Tickets [waiting: {len(self._tickets)}]>"

    def open(self, expert: str, tier: Tier) -> Ticket:
        """Makes a ticket. ``tier``: where ``expert`` is now."""
        ticket = Ticket(next(self._numbers), expert, tier, self._clock())
        self._tickets[ticket.number] = ticket
        return ticket

    def grant(self, grant: Grant) -> None:
        """Ends the ticket with a lease."""
        number = grant.ticket
        ticket, granted = self._tickets.pop(number), self._clock()
        queue_seconds = granted - ticket.asked
        swap_seconds = min(ticket.swap_seconds, queue_seconds)

        def ended() -> None:
            now = self._clock()
            self._feed(LeaseReleased(number, now))
            self._observe(LeaseEnded(ticket.expert, now - granted))

        engine = self._engines[grant.engine]
        self._observe(LeaseGranted(ticket.expert, ticket.tier, queue_seconds, swap_seconds))
        ticket.grant(Lease(ticket.expert, engine, ticket.tier, queue_seconds, swap_seconds, ended))

    def reject(self, rejection: Reject) -> None:
        """Ends the ticket with LeaseRejected, and says when to try again where waiting may help."""
        ticket = self._tickets[rejection.ticket]
        self._close(ticket, rejection.reason)
        retry_after_s = None
        if rejection.reason in ("queue_full", "not_resident"):
            expert = self._experts[ticket.expert]
            retry_after_s = self._costs.seconds(expert.weights_bytes, ticket.tier)
            if retry_after_s is not None:
                retry_after_s += wake_seconds(expert.family, self._engines, self._costs)
        ticket.refuse(LeaseRejected(rejection.reason, rejection.message, retry_after_s))

    def left(self, ticket: Ticket) -> None:
        """Gives back the ticket whose client left, or the lease that it was just granted."""
        if ticket.lease is not None:
            ticket.lease.release()
        elif ticket.number in self._tickets:
            self._close(ticket, "cancelled")
            self._feed(TicketCancelled(ticket.number, self._clock()))

    def waited(self, experts: Iterable[str | None], began: float, ended: float) -> None:
        """Counts a move or a start as waited for by the tickets of ``experts``."""
        names = set(experts)
        for ticket in self._tickets.values():
            if ticket.expert in names:
                ticket.waited_for_move(began, ended)

    def refuse_all(self, error: Exception) -> None:
        """Ends every waiting ticket with an error of our own."""
        for ticket in [*self._tickets.values()]:
            self._close(ticket, "broken")
            ticket.refuse(error)

    def _close(self, ticket: Ticket, outcome: TicketOutcome) -> None:
        del self._tickets[ticket.number]
        if ticket.expert in self._experts:
            self._observe(TicketEnded(ticket.expert, outcome, self._clock() - ticket.asked))
