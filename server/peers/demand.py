"""How often clients of this node ask for each expert, for the node that places experts."""

import math
import time
from collections.abc import Callable, Mapping

DEMAND_S = 5.0
"""Seconds over which requests are counted: what is older weighs a third and less."""
LEAST = 0.02
"""Requests a second below which an expert is not asked for any more."""


class Demand:
    """Counts requests, the latest the most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rates: dict[str, tuple[float, float]] = {}

    def __repr__(self) -> str:
        return f"<Demand for {len(self._rates)} experts>"

    def asked(self, expert: str) -> None:
        """Counts a request."""
        now = self._clock()
        self._rates[expert] = (self._rate(expert, now) + 1 / DEMAND_S, now)

    def rates(self) -> Mapping[str, float]:
        """Returns requests a second, of the experts that are asked for."""
        now = self._clock()
        rates = {expert: self._rate(expert, now) for expert in self._rates}
        self._rates = {expert: self._rates[expert] for expert, rate in rates.items() if rate >= LEAST}
        return {expert: rates[expert] for expert in self._rates}

    def _rate(self, expert: str, now: float) -> float:
        rate, at = self._rates.get(expert, (0.0, now))
        return rate * math.exp((at - now) / DEMAND_S)
