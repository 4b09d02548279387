"""The compositions by the names that clients ask for: ``coe``, and ``coe:31B`` for its map under a budget."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from router.composition import Composition
from router.errors import MappingError
from router.mapping.traffic_shares import label_shares
from router.parameters import billions
from server.errors import BadRequest
from server.routing.solving_queue import SolvingQueue
from server.routing.thread_pools import Workers

KEPT = 64
"""Solved maps kept, over all compositions."""


@dataclass(frozen=True, slots=True)
class Named:
    """A composition and its name, without a budget."""

    name: str
    composition: Composition


@dataclass(frozen=True, slots=True)
class _Solved:
    """A composition under a budget, for the key that asked for it first."""

    asker: str
    composition: "asyncio.Future[Composition]"


class Compositions:
    """Compositions by name, for one event loop. A map for a budget is solved once, for the key that asks
    first, and kept while it is used. Where there is no room, the key with the most maps loses the least
    recently used one."""

    def __init__(self, compositions: Mapping[str, Composition], workers: Workers) -> None:
        self._compositions = compositions
        self._queue: SolvingQueue[Composition] = SolvingQueue(workers.solve)
        self._solved: OrderedDict[tuple[str, float], _Solved] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._compositions)

    def source(self, name: str) -> Composition | None:
        """Returns the composition ``name``, without a budget; None: there is none."""
        return self._compositions.get(name)

    def chosen_by(self, name: str) -> tuple[str, ...]:
        """Returns the experts that the composition ``name`` can choose."""
        return self._compositions[name].experts

    @property
    def categories(self) -> frozenset[str]:
        """Categories of all compositions."""
        return frozenset(
            category
            for composition in self._compositions.values()
            for category in composition.router.categories
        )

    @property
    def expected(self) -> dict[str, dict[str, float]]:
        """Shares of categories in training, of the compositions whose router has scores."""
        artifacts = {name: each.router.artifact for name, each in self._compositions.items()}
        return {
            name: label_shares(artifact.scores, artifact.finer)
            for name, artifact in artifacts.items()
            if artifact.scores is not None
        }

    @property
    def dimensions(self) -> dict[str, int]:
        """Dimensions of each composition's embeddings."""
        return {name: each.router.embedder.dimension for name, each in self._compositions.items()}

    async def named(self, model: str, asker: str = "") -> Named | None:
        """Returns the composition called ``model``; None: there is none. ``asker``: the key of the request.
        Raises BadRequest where there is no map for the budget, TooManyRequests."""
        if model in self._compositions:
            return Named(model, self._compositions[model])
        name, _, written = model.rpartition(":")
        if name not in self._compositions:
            return None
        try:
            budget = billions(written)
        except ValueError:
            return None
        try:
            return Named(name, await self._under(name, budget, asker))
        except MappingError as error:
            raise BadRequest(f"{model}: {error}.", "model") from error

    async def _under(self, name: str, budget: float, asker: str) -> Composition:
        """Returns the composition under a budget. Solving goes on when the client that asked has left:
        another may be waiting."""
        key = name, budget
        if key not in self._solved:
            composition = self._compositions[name]
            solving = self._queue.add(asker, lambda: composition.under(budget))
            self._solved[key] = _Solved(asker, solving)
            if len(self._solved) > KEPT:
                self._make_room()
        self._solved.move_to_end(key)
        return await asyncio.shield(self._solved[key].composition)

    def _make_room(self) -> None:
        counts = Counter(solved.asker for solved in self._solved.values())
        ((greediest, _),) = counts.most_common(1)
        del self._solved[next(key for key, solved in self._solved.items() if solved.asker == greediest)]

    def __repr__(self) -> str:
        return f"<Compositions {', '.join(self.names) or 'none'}; {len(self._solved)} maps for budgets>"
