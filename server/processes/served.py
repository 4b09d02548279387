"""One gateway process as the node serves it: leases, counts, stories and whole requests."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp

from experts.errors import EngineLost, ExpertNotResident
from experts.vllm.engine import VllmEngine
from memory_tiers.events import Priority
from memory_tiers.lease import Lease
from server.access.counts import Admitted, Receipt
from server.access.rate_limits import Refusal
from server.access.usage import Spent
from server.config.api_keys import Key
from server.errors import BreakerOpen
from server.feedback.recorder import Kept
from server.observation.story import Story
from server.processes.forwarded import Forwarded
from server.processes.link import ANSWER, FAILED, Link, Message, sendable
from server.processes.messages import Granted
from server.resilience.circuit_breakers import Outcomes, Part
from server.routing.routing import Route
from server.services import NodeServices

log = logging.getLogger("coe.processes")


class Served:
    """Keeps what one process holds of the node. When it is gone, ``end`` gives all of it back: its
    leases, what it had waiting, and its reservations. What its requests had used is not known then: they
    are charged no tokens."""

    def __init__(self, services: NodeServices, app: ASGIApp) -> None:
        """``app``: answers what the process passes on whole."""
        self.link = Link(self.take, self.end)
        self.ready = asyncio.Event()
        self.reloaded: asyncio.Future[str] | None = None
        """Why the process does not take other settings; empty: it does, or it is gone."""
        self._services = services
        self._app = app
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leases: dict[int, Lease] = {}
        self._admitted: dict[int, tuple[Key, Receipt]] = {}
        self._attempts: dict[int, Outcomes] = {}
        self._kept: dict[int, Kept] = {}
        self._stories: dict[int, Story] = {}
        self._forwarded: dict[int, Forwarded] = {}

    def __repr__(self) -> str:
        return (
            f"<Served [leases: {len(self._leases)}, requests: {len(self._stories)}, "
            f"passed on: {len(self._forwarded)}]>"
        )

    @property
    def idle(self) -> bool:
        """Whether it holds nothing."""
        return not (self._leases or self._admitted or self._tasks or self._forwarded)

    def take(self, message: Message) -> None:
        """Takes one message of the process. Each has a method of its name."""
        name, *arguments = message
        getattr(self, f"_on_{name}")(*arguments)

    def end(self) -> None:
        """Gives back all that the process held."""
        for task in self._tasks.values():
            task.cancel()
        for forwarded in self._forwarded.values():
            forwarded.left()
        for lease in [*self._leases.values()]:
            lease.release()
        for key, receipt in self._admitted.values():
            self._services.admissions.counts.settle(key, receipt, "", Spent(1, 1))
        for attempt in self._attempts.values():
            attempt.over(None)
        for story in self._stories.values():
            self._services.observer.stories.end(story, "client_left")
        self._on_reloaded()
        for held in (self._leases, self._admitted, self._attempts, self._stories, self._kept):
            held.clear()

    # Its own state

    def _on_ready(self) -> None:
        self.ready.set()

    def _on_reloaded(self, why_not: str = "") -> None:
        if self.reloaded is not None and not self.reloaded.done():
            self.reloaded.set_result(why_not)

    # Questions

    def _on_admit(self, number: int, key: Key, tokens: int, offline: bool) -> None:
        self._answer(number, self._admit(number, key, tokens, offline=offline))

    def _on_remaining(self, number: int, key: Key) -> None:
        self._answer(number, self._services.admissions.counts.remaining(key))

    def _on_lease(
        self,
        number: int,
        expert: str,
        fail_fast: bool,
        priority: Priority,
        conversation: str,
        keep_s: float | None,
    ) -> None:
        self._answer(number, self._lease(number, expert, fail_fast, priority, conversation, keep_s))

    def _on_alive(self, number: int, engine: str) -> None:
        self._answer(number, self._alive(engine))

    def _answer(self, number: int, work: Coroutine[Any, Any, Any]) -> None:
        """Does the work beside, and tells what comes of it."""
        task = self._tasks[number] = asyncio.create_task(self._answered(number, work))

        def over(_: asyncio.Task[None]) -> None:  # also of one that is cancelled before it begins
            work.close()
            del self._tasks[number]

        task.add_done_callback(over)

    async def _answered(self, number: int, work: Coroutine[Any, Any, Any]) -> None:
        try:
            self.link.tell(ANSWER, number, await work)
        except Exception as error:  # noqa: BLE001  # told to who asked
            self.link.tell(FAILED, number, sendable(error))

    def _on_cancel(self, number: int) -> None:
        """Ends a question whose client has left, or gives back what it was just given."""
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()
        self._on_release(number)
        if number in self._admitted:
            key, receipt = self._admitted.pop(number)
            self._services.admissions.counts.settle(key, receipt, "", Spent())

    async def _alive(self, engine: str) -> bool:
        found = self._services.engines.get(engine)
        return found is not None and await found.alive()  # a reload may have removed it

    # Leases

    async def _lease(
        self,
        number: int,
        expert: str,
        fail_fast: bool,
        priority: Priority,
        conversation: str,
        keep_s: float | None,
    ) -> Granted:
        lease = await self._services.tiers.lease(
            expert, fail_fast=fail_fast, priority=priority, conversation=conversation, keep_s=keep_s
        )
        try:
            engine = lease.engine
            assert isinstance(engine, VllmEngine), "the engine factory makes none in this process"
            granted = Granted(
                number,
                engine.family,
                engine.server.run,
                engine.address(expert),
                lease.tier,
                lease.queue_seconds,
                lease.swap_seconds,
            )
        except BaseException:
            lease.release()
            raise
        self._leases[number] = lease
        return granted

    def _on_release(self, number: int) -> None:
        lease = self._leases.pop(number, None)
        if lease is not None:
            lease.release()

    def _on_foresee(self, chances: dict[str, float]) -> None:
        self._services.tiers.foresee(chances)

    def _on_wanted(self, expert: str) -> None:
        if self._services.peers is not None:
            self._services.peers.demand.asked(expert)

    # Counts

    async def _admit(self, number: int, key: Key, tokens: int, *, offline: bool) -> Admitted | Refusal:
        decided = await self._services.admissions.counts.admit(key, tokens, offline=offline)
        if isinstance(decided, Admitted):
            self._admitted[number] = key, decided.receipt
            return replace(decided, receipt=number)
        return decided

    def _on_settle(self, number: int | None, key: Key, expert: str, spent: Spent) -> None:
        """``number``: of the question by which it was admitted; 0: there was none; None: it was not let
        in."""
        receipt = self._admitted.pop(number)[1] if number else number
        self._services.admissions.counts.settle(key, receipt, expert, spent)

    # Outcomes

    def _on_attempt(self, number: int, expert: str) -> None:
        found = self._services.experts.get(expert)
        if found is None:
            return
        try:
            self._attempts[number] = self._services.breakers.enter(found)
        except BreakerOpen:
            log.debug("an attempt for %s began just as its breaker opened", expert)

    def _on_answered(self, number: int, status: int) -> None:
        if number in self._attempts:
            self._attempts[number].answered(status)

    def _on_ended(self, number: int) -> None:
        if number in self._attempts:
            self._attempts.pop(number).ended()

    def _on_over(self, number: int, part: Part | None, why: str) -> None:
        if number in self._attempts:
            faults: dict[Part | None, Exception | None] = {
                "expert": ExpertNotResident(why),
                "engine": EngineLost(why),
                None: None,
            }
            self._attempts.pop(number).over(faults[part])
            if part is not None:
                self._services.residency.note()  # all processes are told which breakers are open

    # What is shown and recorded

    def _on_request_done(self, expert: str, outcome: str, seconds: float) -> None:
        self._services.metrics.request_done(expert, outcome, seconds)

    def _on_first_bytes(self, expert: str, seconds: float) -> None:
        self._services.metrics.first_bytes(expert, seconds)

    def _on_routed(self, *decision: Any) -> None:
        self._services.metrics.decided(*decision)

    def _on_decided(self, number: int, request_id: str, owner: str, composition: str, route: Route) -> None:
        if self._services.feedback is not None:
            kept = self._services.feedback.decided(request_id, owner, composition, route)
            if kept is not None:
                self._kept[number] = kept

    def _on_outcome(self, number: int, outcome: str) -> None:
        kept = self._kept.pop(number, None)
        if kept is not None:
            kept.ended(outcome)

    def _on_live(self, stories: list[Story]) -> None:
        for story in stories:
            self._story(story)

    def _on_story(self, story: Story) -> None:
        self._story(story)

    def _story(self, story: Story) -> None:
        """Takes in a story as it is there now. Its number there is another one here."""
        number, route = story.number, story.route
        if route is not None and route.composition:
            source = self._services.catalog.routing.source(route.composition)
            story.route = replace(route, source=source)
        before = self._stories.pop(number, None)
        self._services.observer.stories.take(story, before)
        if story.ended_at is None:
            story.cancel = lambda: self.link.tell("cancel", number)
            self._stories[number] = story

    def _on_log(self, at: float, level: int, logger: str, text: str) -> None:
        self._services.observer.log_lines.add(at, level, logger, text)

    # Requests that are answered here

    def _on_asgi(self, number: int, scope: dict[str, Any]) -> None:
        forwarded = self._forwarded[number] = Forwarded(self.link, number, self._app, scope)
        self._tasks[-number] = asyncio.create_task(self._forward(number, forwarded))

    async def _forward(self, number: int, forwarded: Forwarded) -> None:
        try:
            await forwarded.run()
        finally:
            del self._forwarded[number], self._tasks[-number]

    def _on_come(self, number: int, message: Any) -> None:
        if number in self._forwarded:
            self._forwarded[number].come(message)

    def _on_read(self, number: int, size: int) -> None:
        if number in self._forwarded:
            self._forwarded[number].read(size)

    def _on_left(self, number: int) -> None:
        if number in self._forwarded:
            self._forwarded[number].left()
