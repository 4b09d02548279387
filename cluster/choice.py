"""Which node a request goes to: by what it would wait for there, and better of two where that is near."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NEAR_S = 0.02
"""Seconds by which scores may differ and yet be as good as equal: what nodes said is half a second old."""
NEAR_SHARE = 0.25
"""Share of the best score by which another may be worse, likewise."""
LOAD_WEIGHT = 2.0
"""Weight of the seconds until an expert is resident: a load makes other loads wait, and another expert
leave."""
AFFINITY_S = 0.25
"""Seconds that a node is worth which has answered the conversation before: the engine need not read its
beginning again."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may be asked. ``resident_s``: seconds until it has the expert on its device; ``queue_s``:
    seconds that requests for it wait there beside that; ``affine``: it has answered this conversation;
    ``displaced_s``: seconds until what has to leave for the expert would be back."""

    node: str
    resident_s: float
    queue_s: float
    affine: bool = False
    displaced_s: float = 0.0

    @property
    def score(self) -> float:
        """Returns the seconds that a request would cost, itself and others; the fewer the better."""
        return (
            LOAD_WEIGHT * self.resident_s
            + self.displaced_s
            + self.queue_s
            - (AFFINITY_S if self.affine else 0.0)
        )


def in_order(candidates: Iterable[Candidate], chance: random.Random) -> Sequence[Candidate]:
    """Returns the candidates in the order in which they are asked: first the better of two at random among
    those that are near the best, so that many gateways with the same old news do not all ask the same; then
    the others by their scores."""
    ranked = sorted(candidates, key=lambda candidate: (candidate.score, candidate.node))
    if len(ranked) < 2:
        return ranked
    best = ranked[0].score
    bound = best + max(NEAR_S, NEAR_SHARE * abs(best))
    near = sum(candidate.score <= bound for candidate in ranked)
    first = min(chance.sample(range(near), 2)) if near > 1 else 0
    return [ranked[first], *ranked[:first], *ranked[first + 1 :]]
