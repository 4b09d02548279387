"""Evicts with knowledge of the future: Belady's optimum (IBM Systems Journal 5, 1966)."""

import heapq
import math
from collections.abc import Sequence

from memory_tiers.state.records.policy import Candidate
from memory_tiers.tiers import Tier


class Belady:
    """Ranks, for the simulator, the expert that will be asked for last as the first to leave."""

    def __init__(self, arrivals: Sequence[str]) -> None:
        """``arrivals``: names of experts in the order in which they will be asked for."""
        self._coming: dict[str, list[int]] = {}
        for number in range(len(arrivals) - 1, -1, -1):
            self._coming.setdefault(arrivals[number], []).append(number)

    def arriving(self, expert: str) -> None:
        """Notes that the next arrival, one for ``expert``, comes now."""
        self._coming[expert].pop()

    def rank(self, candidate: Candidate, tier: Tier) -> float:
        coming = self._coming.get(candidate.name)
        return -coming[-1] if coming else -math.inf


def fewest_moves(arrivals: Sequence[str], fits: int) -> int:
    """Counts the loads that cannot be avoided where ``fits`` experts of one size are held and requests are
    served one after another in the order of arrival, whatever was held before. A scheduler that lets requests
    wait and serves those for one expert together may need fewer."""
    later: dict[str, int] = {}
    next_use = [0] * len(arrivals)
    for number in range(len(arrivals) - 1, -1, -1):
        next_use[number] = later.get(arrivals[number], len(arrivals))
        later[arrivals[number]] = number
    held: dict[str, int] = {}
    order: list[tuple[int, str]] = []
    moves = 0
    for number, expert in enumerate(arrivals):
        if expert not in held and len(held) >= fits:
            moves += 1
            while True:
                use, victim = heapq.heappop(order)
                if held.get(victim) == -use:
                    break
            del held[victim]
        held[expert] = next_use[number]
        heapq.heappush(order, (-next_use[number], expert))
    return moves
