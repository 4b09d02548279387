"""A router as requests meet it: with the conversation, the experts that can take it, and what the client
set."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from router.canary import Canary
from router.conversations.conversation import prompts_of
from router.conversations.recall import Recall
from router.decision import Decision
from router.languages import Languages
from router.mapping.budget_solver import Solver
from router.mapping.milp import Solution
from router.residency import resident_instead
from router.router import Router
from router.stickiness import MARGIN, STAY_MARGIN, TURNS, settled, stays

RoutedBy = Literal[
    "map",
    "one-step",
    "category-header",
    "budget",
    "language",
    "canary",
    "sticky",
    "residency",
    "eligibility",
    "fallback",
    "expert",
]
"""The reason for the expert. ``map``: the map at the prompt's category. ``one-step``: the scores expected of
the prompt by itself, less a price for size. ``category-header``: the map at the
category that the client named. ``budget``: the map solved for the budget in the model's name. ``language``:
the language of the conversation has an expert. ``sticky``: an earlier turn's category. ``canary``: another
map, which is tried. ``residency``: an expert on the device is nearly as good as the map's. ``eligibility``:
the map's expert could not take the request. ``fallback``: the chosen expert is broken. ``expert``: the client
named it. Where several hold: ``fallback``, else ``eligibility``, else ``language``, else ``canary``, else
``residency``, else ``category-header``, else ``sticky``."""
Arm = Literal["", "canary", "incumbent"]
"""The map that answered where a trial would change the expert; empty where it would not."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision for a conversation's last turn. ``alone``: what it would be for that turn by itself, if
    every expert could take it. ``prompt``: what was read for it. ``sticky``: the category, or the expert, is
    an earlier turn's. ``arm``: of the trial of another map."""

    decision: Decision
    by: RoutedBy
    alone: Decision
    prompt: str
    sticky: bool = False
    arm: Arm = ""


class Composition:
    """Safe to call from several threads. Deciding is CPU work of milliseconds: keep it off the event loop."""

    def __init__(
        self,
        router: Router,
        *,
        margin: float = MARGIN,
        stay_margin: float = STAY_MARGIN,
        residency_margin: float = 0.0,
        canary: Canary | None = None,
        languages: Languages | None = None,
        solver: Solver | None = None,
        recall: Recall | None = None,
        by: RoutedBy = "map",
        fallback: bool | str = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``margin`` and ``stay_margin``: of ``router.stickiness``. ``residency_margin``: of
        ``router.residency``, in points; 0: where experts are does not count. ``canary``: a map
        that is tried. ``languages``: with experts, which answer before the map does. ``solver``: for maps
        under other budgets. ``recall``: of a router with the same classifier. ``by``: what made the
        router's map. ``fallback``: as configured."""
        self.router = router
        self._margin = margin
        self._stay_margin = stay_margin
        self.residency_margin = residency_margin
        self._canary = canary
        self._languages = languages
        artifact = router.artifact
        self._solver = solver or artifact.solver(router.experts)
        self._recall = recall or Recall(router)
        self._by = by
        self._fallback = fallback
        self._clock = clock

    @cached_property
    def experts(self) -> tuple[str, ...]:
        """The experts that the map can choose, the one that is tried, and those of languages."""
        tried = () if self._canary is None else self._canary.mapping.names()
        spoken = () if self._languages is None else self._languages.experts.values()
        return tuple(sorted({*self.router.experts, *tried, *spoken}))

    @property
    def stand_ins(self) -> tuple[str, ...]:
        """The experts that may answer when another is broken."""
        if isinstance(self._fallback, str):
            return (self._fallback,)
        return self.experts if self._fallback else ()

    @cached_property
    def frontier(self) -> Sequence[Solution]:
        """The best map at each budget, from the cheapest to the best. Solved once, which takes up to seconds.
        Raises MappingError."""
        return tuple(self._solver.frontier())

    def under(self, active: float) -> "Composition":
        """Returns the composition with a map solved for a budget in billions of active parameters. Takes up
        to seconds. Raises MappingError."""
        router = self.router.with_map(self._solver.map(active))
        return Composition(
            router,
            margin=self._margin,
            stay_margin=self._stay_margin,
            residency_margin=self.residency_margin,
            languages=self._languages,
            solver=self._solver,
            recall=self._recall,
            by="budget",
            fallback=self._fallback,
            clock=self._clock,
        )

    def read_ahead(self, conversations: Sequence[Sequence[Mapping[str, object]]]) -> list[bool]:
        """Reads the turns of conversations together, as far as that is quick. Says of each whether ``choose``
        has nothing left to read for it."""
        if self._languages is not None:  # which takes as long as reading does
            return [False for _ in conversations]
        asked = [
            prompts_of(messages, last=TURNS if self._margin else 1) or [""] for messages in conversations
        ]
        prompts = [prompt for each in asked for prompt in each]
        read = self._recall.read_ahead(prompts, self.router.decide_quickly)
        return [read.issuperset(each) for each in asked]

    def choose(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        eligible: Collection[str] | None = None,
        category: str | None = None,
        resident: Collection[str] = (),
    ) -> Choice:
        """``eligible``: as in ``Router.decide``. ``category``: the map is read there, whatever is asked.
        ``resident``: the experts on the device.

        Raises MappingError for a category that the map does not have, NoEligibleError.
        """
        started = self._clock()
        prompts = prompts_of(messages, last=TURNS if self._margin and category is None else 1) or [""]
        turns = [self._recall.decide(prompt) for prompt in prompts]
        alone = self.router.mapped(turns[-1])
        by = self._reason(alone)
        if category is not None:
            wanted, by = self._at(category, alone), "category-header"
        else:
            wanted = self._kept(prompts, turns, alone)
        sticky = category is None and (wanted.category, wanted.expert) != (alone.category, alone.expert)
        if sticky:
            by = "sticky"
        spoken = None
        if self._languages is not None and category is None:
            spoken = self._languages.expert_of(prompts)
        if spoken is not None and (eligible is None or spoken in eligible):
            decided = replace(self.router.mapped(alone, prefer=spoken), seconds=self._clock() - started)
            return Choice(decided, "language", alone, prompts[-1])
        decision = wanted
        if wanted is not alone or (eligible is not None and alone.expert not in eligible):
            decision = self.router.mapped(wanted, eligible, prefer=wanted.expert)
        arm = self._arm(messages, decision, category)
        if decision.expert != wanted.expert:
            by = "eligibility"
        elif arm == "canary" and self._canary is not None:
            tried = self._canary.mapping[decision.cluster]
            decision = self.router.mapped(decision, eligible, prefer=tried)
            by = "canary" if decision.expert == tried else by
        elif (near := self._near(decision, resident, eligible)) is not None:
            decision, by = self.router.mapped(decision, eligible, prefer=near), "residency"
        decided = replace(decision, seconds=self._clock() - started)
        return Choice(decided, by, alone, prompts[-1], sticky, arm)

    def _reason(self, decision: Decision) -> RoutedBy:
        mapping = self.router.artifact.mapping
        free = mapping.fixed.isdisjoint({decision.cluster, decision.category})
        return "one-step" if self._by == "map" and mapping.price is not None and free else self._by

    def _kept(self, prompts: Sequence[str], turns: Sequence[Decision], alone: Decision) -> Decision:
        """The decision for the last turn under the conversation's category, with the expert of the turn
        before where that one is worth staying with; ``alone`` where nothing is kept."""
        artifact, label, row, expert = self.router.artifact, "", "", ""
        table = artifact.scores if self._stay_margin else None
        sizes = {} if table is None else table.size_of()
        begin = 0 if table is not None else len(turns) - 1
        for end in range(begin, len(turns)):
            label = settled(turns[: end + 1], self._margin).category
            row = self._row(label, prompts[end], turns[end])
            chosen = self.router.expert_at(row, turns[end].expected)
            free = bool(expert) and artifact.mapping.fixed.isdisjoint({row, label})
            scores = self.router.scores_at(row, turns[end].expected) if free else {}
            if not free or not stays(scores, sizes, expert, chosen, self._stay_margin):
                expert = chosen
        if (label, row, expert) == (alone.category, alone.cluster, alone.expert):
            return alone
        return replace(alone, category=label, cluster=row, expert=expert)

    def _arm(self, messages: Sequence[Mapping[str, object]], decision: Decision, category: str | None) -> Arm:
        """The arm of a conversation at a row where the trial would change the expert."""
        if self._canary is None or category is not None:
            return ""
        if self._canary.mapping[decision.cluster] == self.router.artifact.mapping[decision.cluster]:
            return ""
        return "canary" if self._canary.has(messages) else "incumbent"

    def _near(
        self, decision: Decision, resident: Collection[str], eligible: Collection[str] | None
    ) -> str | None:
        """The resident expert that answers in the place of the decision's."""
        table, mapping = self.router.artifact.scores, self.router.artifact.mapping
        if not self.residency_margin or table is None:
            return None
        if not mapping.fixed.isdisjoint({decision.cluster, decision.category}):
            return None
        able = {*resident} & {*self.experts} & ({*resident} if eligible is None else {*eligible})
        scores = self.router.scores_at(decision.cluster, decision.expected)
        return resident_instead(scores, table.size_of(), decision.expert, able, self.residency_margin)

    def _row(self, label: str, prompt: str, turn: Decision) -> str:
        """The row at which the map is read for a turn whose category is ``label``."""
        if label == turn.category:
            return turn.cluster
        return (
            label if self.router.artifact.clusters is None else self._recall.cluster_in(label, prompt, turn)
        )

    def instead(self, choice: Choice, able: Collection[str]) -> Choice | None:
        """Replaces an expert that is broken by one of ``stand_ins`` that is ``able``: the next of the map, or
        the configured one. None: no expert is left."""
        able = [name for name in self.stand_ins if name in able]
        if not able:
            return None
        if isinstance(self._fallback, str):
            decision = replace(choice.decision, expert=self._fallback)
        else:
            decision = self.router.mapped(choice.decision, able)
        return replace(choice, decision=replace(decision, seconds=0.0), by="fallback")

    def _at(self, category: str, alone: Decision) -> Decision:
        """At the finer category that the prompt is in by itself, if ``category`` has it, else at the one that
        most prompts are in."""
        rows = self.router.artifact.mapping.rows_of(category)
        scores = self.router.artifact.scores
        shares = {} if scores is None else dict(zip(scores.categories, scores.shares, strict=True))
        cluster = alone.cluster if alone.cluster in rows else max(rows, key=lambda row: shares.get(row, 0.0))
        mapping = self.router.artifact.mapping
        label = mapping.finer.get(cluster, cluster)
        expected = alone.expected if cluster == alone.cluster else {}
        expert = self.router.expert_at(cluster, expected)
        return replace(
            alone, category=label, cluster=cluster, uncertain=False, expert=expert, expected=expected
        )

    def __repr__(self) -> str:
        return f"<Composition of {self.router!r}, margin {self._margin:g}>"
