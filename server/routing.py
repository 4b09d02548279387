"""From the ``model`` a client names to an expert: a composition is routed, an expert is taken as it is."""

import asyncio
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experts.spec import Expert
from router.conversation import prompt_of
from router.decision import Decision
from router.pipeline import Router
from server.eligibility import Eligibility
from server.errors import UnknownModel
from server.openai import ChatRequest


@dataclass(frozen=True, slots=True)
class Route:
    """The expert that answers, and the decision that chose it (None when the client named the expert)."""

    expert: str
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Routed:
    """A route and the expert that it names, as it was configured when the route was chosen."""

    route: Route
    expert: Expert


class Routing:
    """The compositions' routers, by name."""

    def __init__(
        self,
        routers: Mapping[str, Router],
        experts: Mapping[str, Expert],
        windows: Mapping[str, int],
        observe: Callable[[str, Decision], None],
    ) -> None:
        """``windows``: family to its context window in tokens."""
        self._routers = routers
        self._experts = experts
        self._windows = windows
        self._observe = observe

    async def route(self, request: ChatRequest) -> Route:
        """Decides off the event loop. Raises UnknownModel, NotCapable, ContextTooLong, RouterError."""
        router = self._routers.get(request.model)
        if router is None and request.model not in self._experts:
            raise UnknownModel(self._no_such_model(request.model), "model")
        route = await asyncio.to_thread(self._choose, request, router)
        if route.decision is not None:
            self._observe(request.model, route.decision)
        return route

    def _choose(self, request: ChatRequest, router: Router | None) -> Route:
        names = (request.model,) if router is None else router.experts
        eligibility = Eligibility.of(request, [self._experts[name] for name in names], self._windows)
        eligible = eligibility.among(names)
        if router is None:
            return Route(request.model, None)
        decision = router.decide(prompt_of(request.messages), eligible)
        return Route(decision.expert, decision)

    def _no_such_model(self, name: str) -> str:
        known = [*self._routers, *sorted(self._experts)]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Models: {', '.join(known)}."
        return f"The model {name[:100]!r} does not exist. {hint}"
