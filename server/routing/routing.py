"""Routes from the ``model`` that a client names to an expert: a composition is routed, an expert is taken as
it is."""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from experts.spec import Expert, Task
from router.composition import Arm, Choice, Composition, RoutedBy
from router.decision import Decision
from router.errors import MappingError
from server.errors import BadRequest, NotCapable, UnknownModel
from server.model_request import ModelRequest
from server.routing.batches import Batches
from server.routing.compositions import Compositions, Named
from server.routing.eligibility import LONG, Eligibility, Reason, needs_of
from server.routing.explanation import Explanation, MapSource
from server.routing.thread_pools import Workers

_OTHER_TASK: Mapping[Task, str] = {
    "generate": "generates text and gives no embeddings. An embedding model's name gives some, and a "
    "composition's name those of its router; GET /v1/models lists them.",
    "embed": "is an embedding model and generates no text: ask for its vectors at /v1/embeddings. "
    "GET /v1/models lists the models.",
}
"""Reason why an expert cannot take a request of another task."""
Observe = Callable[[str, Decision, RoutedBy, Arm], None]
"""Callback for each decision, with the composition's name."""
Resident = Callable[[], Collection[str]]
"""Names the experts that are on the device now."""


def _nowhere() -> Collection[str]:
    """Names no expert."""
    return ()


@dataclass(frozen=True, slots=True)
class Route:
    """Route of a request: the expert that answers, the ineligible ones with reasons, and the composition's
    choice (None: the client named the expert). ``composition``: its name, without a budget; ``source``:
    itself. ``in_place_of``: the broken expert that was chosen first."""

    expert: str
    ruled_out: Mapping[str, Reason]
    composition: str = ""
    choice: Choice | None = None
    source: Composition | None = None
    in_place_of: str = ""

    @property
    def by(self) -> RoutedBy:
        return "expert" if self.choice is None else self.choice.by

    @property
    def decision(self) -> Decision | None:
        return None if self.choice is None else self.choice.decision

    def without(self, broken: Collection[str]) -> "Route | None":
        """Returns the route around broken experts. None: no other answers, or the client named the expert."""
        if self.choice is None or self.source is None:
            return None
        able = {*self.source.stand_ins} - self.ruled_out.keys() - {*broken}
        choice = self.source.instead(self.choice, able)
        if choice is None:
            return None
        first = self.in_place_of or self.expert
        return replace(self, expert=choice.decision.expert, choice=choice, in_place_of=first)

    @property
    def prompt(self) -> str:
        """The text that the router read."""
        return "" if self.choice is None else self.choice.prompt


class Routed(NamedTuple):
    """A route and the expert that it names, as it was configured when the route was chosen."""

    route: Route
    expert: Expert


class Routing:
    """Routing over compositions, by name, and experts."""

    def __init__(
        self,
        compositions: Mapping[str, Composition],
        experts: Mapping[str, Expert],
        windows: Mapping[str, int],
        observe: Observe,
        workers: Workers,
        aliases: Collection[str] = (),
    ) -> None:
        """``windows``: family to its context window in tokens. ``aliases``: names that errors may suggest."""
        self._compositions = Compositions(compositions, workers)
        self._experts = experts
        self._direct = {name: Route(name, {}) for name in experts}
        """Routes to experts that clients name."""
        self._windows = windows
        self._observe = observe
        self._workers = workers
        self._batches = Batches(workers)
        self._aliases = aliases

    @property
    def dimensions(self) -> dict[str, int]:
        """Dimensions of each composition's embeddings."""
        return self._compositions.dimensions

    def source(self, composition: str) -> Composition | None:
        """Returns a composition by its name, without a budget; None: there is none."""
        return self._compositions.source(composition)

    def chosen_by(self, composition: str) -> tuple[str, ...]:
        """Returns the experts that a composition's map can choose."""
        return self._compositions.chosen_by(composition)

    @property
    def expected(self) -> dict[str, dict[str, float]]:
        """Each composition's shares of categories in training, of those whose router has scores."""
        return self._compositions.expected

    @property
    def categories(self) -> frozenset[str]:
        """Categories of all compositions."""
        return self._compositions.categories

    async def route(
        self, request: ModelRequest, category: str | None = None, resident: Resident = _nowhere
    ) -> Route:
        """Routes a request, off the event loop. ``category``: the client's own, for a composition.
        ``resident`` is asked where a composition minds.

        Raises UnknownModel, BadRequest, NotCapable, ContextTooLong, RouterError.
        """
        if request.model in self._experts:
            return await self._checked(request)
        named = await self.named(request.model, request.asker)
        route = await self._decide(request, named, category, resident)
        if route.choice is not None:
            self._observe(route.composition, route.choice.decision, route.by, route.choice.arm)
        return route

    async def explain(
        self, request: ModelRequest, category: str | None = None, resident: Resident = _nowhere
    ) -> Explanation:
        """Explains the route of a request, without reporting a decision."""
        named = await self.named(request.model, request.asker)
        route = await self._decide(request, named, category, resident)
        if named is None:
            return Explanation.of(request.model, None, (request.model,), {})
        source = MapSource.of_composition(named.composition)
        return Explanation.of(request.model, route.choice, source.experts, route.ruled_out, source)

    async def named(self, model: str, asker: str = "") -> Named | None:
        """Returns the composition that ``model`` names; None for an expert. ``asker``: the key of the
        request. Raises UnknownModel, and BadRequest or TooManyRequests where there is no map for a budget."""
        if model in self._experts:
            return None
        named = await self._compositions.named(model, asker)
        if named is None:
            raise UnknownModel(self._no_such_model(model), "model")
        return named

    async def _decide(
        self, request: ModelRequest, named: Named | None, category: str | None, resident: Resident
    ) -> Route:
        if named is None:
            return await self._checked(request)
        there = resident() if named.composition.residency_margin else ()
        return await self._batches.decide(
            named.composition, request.messages, lambda: self._choose(request, named, category, there)
        )

    async def _checked(self, request: ModelRequest) -> Route:
        """Returns the route to the expert that the request names, if that is eligible. Short texts are
        checked at once. Raises NotCapable, ContextTooLong."""
        expert = self._experts[request.model]
        _check_task(request, expert)
        window = self._windows[expert.family]
        needs = needs_of(request, window)
        if needs.characters > LONG:
            missing = await self._workers.decide(lambda: needs.missing(expert, window))
        else:
            missing = needs.missing(expert, window)
        if missing is not None:
            Eligibility(needs, {expert.name: window}, {expert.name: missing}).among([expert.name])  # says why
        return self._direct[expert.name]

    def _choose(
        self, request: ModelRequest, named: Named, category: str | None, resident: Collection[str]
    ) -> Route:
        names, stand_ins = named.composition.experts, named.composition.stand_ins
        judged = [self._experts[name] for name in dict.fromkeys((*names, *stand_ins))]
        eligibility = Eligibility.of(request, judged, self._windows)
        eligible = eligibility.among(names)
        if not request.messages:
            message = f"{request.model} chooses an expert by a text, and here is none: name an expert."
            raise BadRequest(message, "model")
        try:
            choice = named.composition.choose(
                request.messages, eligible=eligible, category=category, resident=resident
            )
        except MappingError as error:
            raise BadRequest(f"x-coe-category: {error}.") from error
        ruled_out = eligibility.ruled_out
        return Route(choice.decision.expert, ruled_out, named.name, choice, named.composition)

    def _no_such_model(self, name: str) -> str:
        known = [*self._compositions.names, *sorted(self._experts), *self._aliases]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Models: {', '.join(known)}."
        return f"The model {name[:100]!r} does not exist. {hint}"


def _check_task(request: ModelRequest, expert: Expert) -> None:
    """Checks that the expert's task is the request's. Raises NotCapable."""
    if request.task is not None and request.task != expert.task:
        raise NotCapable(f"{expert.name} {_OTHER_TASK[expert.task]}", "model")
