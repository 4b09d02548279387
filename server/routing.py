"""From the ``model`` a client names to an expert: a composition is routed, an expert is taken as it is."""

import asyncio
import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from experts.spec import Expert
from router.conversation import prompt_of
from router.decision import Decision
from router.pipeline import Router
from server.errors import UnknownModel
from server.openai import ChatRequest


@dataclass(frozen=True, slots=True)
class Route:
    """The expert that answers, and the decision that chose it (None when the client named the expert).
    ``prompt``: what the router read for it."""

    expert: str
    decision: Decision | None
    prompt: str = ""


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
        experts: Collection[str],
        observe: Callable[[str, Decision], None],
    ) -> None:
        self._routers = routers
        self._experts = frozenset(experts)
        self._observe = observe

    @property
    def categories(self) -> frozenset[str]:
        """Of all compositions."""
        return frozenset(category for router in self._routers.values() for category in router.categories)

    async def route(self, request: ChatRequest) -> Route:
        """Decides off the event loop. Raises UnknownModel, RouterError."""
        router = self._routers.get(request.model)
        if router is not None:
            prompt = prompt_of(request.messages)
            decision = await asyncio.to_thread(router.decide, prompt)
            self._observe(request.model, decision)
            return Route(decision.expert, decision, prompt)
        if request.model in self._experts:
            return Route(request.model, None)
        raise UnknownModel(self._no_such_model(request.model), "model")

    def _no_such_model(self, name: str) -> str:
        known = [*self._routers, *sorted(self._experts)]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Models: {', '.join(known)}."
        return f"The model {name[:100]!r} does not exist. {hint}"
