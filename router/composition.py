"""A router as requests meet it: with their conversation, with who can take them, and with what they say."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from router.conversation import prompts_of
from router.decision import Decision
from router.pipeline import Router
from router.recall import Recall
from router.stickiness import MARGIN, TURNS, settled

RoutedBy = Literal["map", "category-header", "budget", "sticky", "eligibility", "expert"]
"""What chose the expert. ``map``: the map at the prompt's category. ``category-header``: the map at the
category that the client named. ``budget``: the map solved for the budget in the model's name. ``sticky``: an
earlier turn's category. ``eligibility``: the map's expert could not take the request. ``expert``: the client
named it. Where several hold: ``eligibility``, else ``category-header``, else ``sticky``."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision for a conversation's last turn. ``alone``: what it would be for that turn by itself, if
    every expert could take it. ``sticky``: the category is an earlier turn's."""

    decision: Decision
    by: RoutedBy
    alone: Decision
    sticky: bool = False


class Composition:
    """Safe to call from several threads. Deciding is CPU work of milliseconds: keep it off the event loop."""

    def __init__(
        self,
        router: Router,
        *,
        margin: float = MARGIN,
        recall: Recall | None = None,
        by: RoutedBy = "map",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``margin``: of ``router.stickiness``. ``recall``: of a router with the same classifier. ``by``:
        what made the router's map."""
        self.router = router
        self._margin = margin
        self._recall = recall or Recall(router)
        self._by = by
        self._clock = clock

    @property
    def experts(self) -> tuple[str, ...]:
        """Those the map can choose."""
        return self.router.experts

    def choose(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        eligible: Collection[str] | None = None,
        category: str | None = None,
    ) -> Choice:
        """``eligible``: as in ``Router.decide``. ``category``: the map is read there, whatever is asked.

        Raises MappingError for a category that the map does not have, NoEligibleError.
        """
        started = self._clock()
        prompts = prompts_of(messages, last=TURNS if self._margin and category is None else 1)
        turns = [self._recall.decide(prompt) for prompt in prompts or [""]]
        alone, by = self.router.mapped(turns[-1]), self._by
        kept = settled(turns, self._margin)
        sticky = category is None and kept.cluster != alone.cluster
        if category is not None:
            wanted, by = self._at(category, alone), "category-header"
        elif sticky:
            wanted, by = replace(alone, category=kept.category, cluster=kept.cluster), "sticky"
        else:
            wanted = alone
        decision = self.router.mapped(wanted, eligible)
        if decision.expert != self.router.mapped(wanted).expert:
            by = "eligibility"
        return Choice(replace(decision, seconds=self._clock() - started), by, alone, sticky)

    def _at(self, category: str, alone: Decision) -> Decision:
        """At the finer category that the prompt is in by itself, if ``category`` has it, else its first."""
        rows = self.router.artifact.mapping.rows_of(category)
        cluster = alone.cluster if alone.cluster in rows else rows[0]
        label = cluster if cluster in self.router.categories else cluster.rpartition("/")[0]
        return replace(alone, category=label, cluster=cluster, uncertain=False)

    def __repr__(self) -> str:
        return f"<Composition of {self.router!r}, margin {self._margin:g}>"
