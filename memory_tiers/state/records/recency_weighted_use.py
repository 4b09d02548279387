"""Counts how much an expert was used in a tier, recent uses weighing more than old ones."""

import math

HALF_LIFE = 3.0
"""Turnovers of a tier, each a full replacement of its contents, after which a use weighs half. By what comes
in, not by the clock: this fits fast and slow machines and small and large tiers, nothing is forgotten while
no expert has to leave, and when other experts are asked for than before, the loads this causes make the old
ones leave soon."""
NEVER_USED = -math.inf


def recency_weighted_use(before: float, turnovers: float, chance: float = 1.0) -> float:
    """Adds one use at ``turnovers`` to the uses before. The result is log2 of the sum of
    2 ** (turnovers / HALF_LIFE) over all uses.

    Experts keep their order while none is used, as all uses age alike. ``chance``, over 0: the probability of
    the use, which is also its weight.
    """
    latest = turnovers / HALF_LIFE + math.log2(chance)
    return max(before, latest) + math.log2(1 + 2 ** -abs(before - latest))
