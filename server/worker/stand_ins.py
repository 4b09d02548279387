"""Stands in a gateway process for what the node alone has: each tells the node, or asks it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from experts.spec import Expert
from router.composition import Arm, RoutedBy
from router.decision import Decision
from server.access.counts import Admitted, Receipt
from server.access.rate_limits import Instant, Refusal, Remaining, now
from server.access.usage import Spent
from server.config.api_keys import UNLIMITED, Key, KeyRing
from server.observation.story import Story
from server.peers.demand import Demand
from server.processes.link import Link
from server.resilience.circuit_breakers import Breakers, BreakerStates, blamed
from server.routing.routing import Route


class NodeCounts:
    """Implements ``server.access.counts.Counts``: the node counts. For a key without limits it is not asked,
    and told the end alone."""

    def __init__(self, link: Link, clock: Callable[[], Instant] = now) -> None:
        self._link = link
        self._clock = clock

    def __repr__(self) -> str:
        return f"<NodeCounts over {self._link!r}>"

    async def admit(self, key: Key, tokens: int, *, offline: bool) -> Admitted | Refusal:
        if key.limits == UNLIMITED:
            return Admitted(0, Remaining(self._clock(), {}))
        decided: Admitted | Refusal = await self._link.call("admit", key, tokens, offline)
        return decided

    async def remaining(self, key: Key) -> Remaining:
        found: Remaining = await self._link.call("remaining", key)
        return found

    def settle(self, key: Key, receipt: Receipt | None, expert: str, spent: Spent) -> None:
        self._link.tell("settle", receipt, key, expert, spent)


class NodeMetrics:
    """Implements ``server.metrics.gateway.RequestMetrics``: the node's count."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __repr__(self) -> str:
        return "<NodeMetrics>"

    def request_done(self, expert: str, outcome: str, seconds: float) -> None:
        self._link.tell("request_done", expert, outcome, seconds)

    def first_bytes(self, expert: str, seconds: float) -> None:
        self._link.tell("first_bytes", expert, seconds)

    def decided(self, composition: str, decision: Decision, by: RoutedBy, arm: Arm = "") -> None:
        self._link.tell("routed", composition, decision, by, arm)


class NodeDemand(Demand):
    """Has the node count what clients of this process ask for."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def asked(self, expert: str) -> None:
        self._link.tell("wanted", expert)


@dataclass(frozen=True, slots=True)
class NodeDecisions:
    """Implements ``server.feedback.recorder.Decisions``: the node records."""

    link: Link

    def decided(self, request_id: str, owner: str, composition: str, route: Route) -> "NodeKept":
        number = self.link.number()
        self.link.tell("decided", number, request_id, owner, composition, replace(route, source=None))
        return NodeKept(self.link, number)


@dataclass(frozen=True, slots=True)
class NodeKept:
    """Implements ``server.feedback.recorder.Kept``."""

    link: Link
    number: int

    def ended(self, outcome: str) -> None:
        self.link.tell("outcome", self.number, outcome)


class NodeAttempts:
    """Implements ``server.resilience.circuit_breakers.Attempts``: the node's breakers open and close, and
    this process knows a moment later."""

    def __init__(self, link: Link, here: Breakers) -> None:
        """``here``: follows the node's."""
        self._link = link
        self._here = here

    def __repr__(self) -> str:
        return f"<NodeAttempts {self._here!r}>"

    def follow(self, states: BreakerStates) -> None:
        self._here.open = states

    def enter(self, expert: Expert) -> "NodeAttempt":
        self._here.enter(expert)
        number = self._link.number()
        self._link.tell("attempt", number, expert.name)
        return NodeAttempt(self._link, number)


class NodeAttempt:
    """Implements ``server.resilience.circuit_breakers.Outcomes``."""

    __slots__ = ("_link", "_number", "_over")

    def __init__(self, link: Link, number: int) -> None:
        self._link = link
        self._number = number
        self._over = False

    def __repr__(self) -> str:
        return f"<NodeAttempt {self._number}{' over' if self._over else ''}>"

    def answered(self, status: int) -> None:
        if status >= 500 or not self._over:
            self._link.tell("answered", self._number, status)

    def ended(self) -> None:
        if not self._over:
            self._over = True
            self._link.tell("ended", self._number)

    def over(self, error: BaseException | None) -> None:
        if not self._over:
            self._over = True
            self._link.tell("over", self._number, blamed(error), str(error))


class NodeKeys:
    """Implements ``server.access.auth.MadeKeys``: those that the node told last."""

    def __init__(self, keys: KeyRing) -> None:
        self.keys = keys

    def __repr__(self) -> str:
        return f"<NodeKeys {self.keys!r}>"


class LinesToNode(logging.Handler):
    """Tells the node what is logged here, for those that read its log."""

    def __init__(self, link: Link) -> None:
        super().__init__(logging.INFO)
        self._link = link

    def handle(self, record: logging.LogRecord) -> bool:
        """Tells it without a lock: a thread's line goes by the event loop."""
        text = record.__dict__.get("message") or record.getMessage()
        if record.exc_info:
            text = f"{text}\n{record.exc_text or logging.Formatter().formatException(record.exc_info)}"
        self._link.tell_from_anywhere("log", record.created, record.levelno, record.name, text)
        return True


def told(story: Story) -> Story:
    """Returns a story as the node is told it: without what is of this process alone."""
    route = story.route
    if route is not None and route.source is not None:
        route = replace(route, source=None)
    return replace(story, route=route, cancel=None)
