"""Compares two maps by clients' feedback, on the rows where they name different experts. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from server.feedback.records import Kept

Verdict = Literal["promote", "take back", "wait"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One map's side of a trial. ``mean``: of the scores that clients gave; None: there are none."""

    decisions: int
    scored: int
    mean: float | None
    error: float
    """Standard error of the mean."""

    @classmethod
    def of(cls, kept: Iterable[Kept]) -> "Arm":
        everything = list(kept)
        scores = [each.score for each in everything if each.score is not None]
        if not scores:
            return cls(len(everything), 0, None, 0.0)
        # One more right and one more wrong answer, so that few equal scores are not certain.
        count, mean = len(scores), sum(scores) / len(scores)
        padded = [*scores, 0.0, 1.0]
        centre = sum(padded) / len(padded)
        spread = sum((score - centre) ** 2 for score in padded) / len(padded)
        return cls(len(everything), count, mean, sqrt(spread / count))


@dataclass(frozen=True, slots=True)
class Trial:
    canary: Arm
    incumbent: Arm

    @property
    def difference(self) -> tuple[float, float, float] | None:
        """Points of score of the canary over the incumbent with a 95 % interval; None where one has none."""
        if self.canary.mean is None or self.incumbent.mean is None:
            return None
        value = 100 * (self.canary.mean - self.incumbent.mean)
        half = 196 * sqrt(self.canary.error**2 + self.incumbent.error**2)
        return value, value - half, value + half

    def verdict(self, least: int, margin: float) -> Verdict:
        """Promotes a canary that is not worse by more than ``margin`` points at the lower end of the
        interval, takes back one that is worse at the upper end, and waits while either arm has fewer than
        ``least`` scores or the interval says neither."""
        found = self.difference
        if found is None or min(self.canary.scored, self.incumbent.scored) < least:
            return "wait"
        _, low, high = found
        if low >= -margin:
            return "promote"
        return "take back" if high < 0 else "wait"


@dataclass(frozen=True, slots=True)
class Shadow:
    """The changes that another map would have made to decisions that were kept. ``moves``: how many decisions
    would have gone from one expert to another, the most first."""

    decisions: int
    moves: Mapping[tuple[str, str], int]

    @property
    def share(self) -> float:
        """Share of the decisions whose expert would have been another."""
        return sum(self.moves.values()) / self.decisions if self.decisions else 0.0


def shadow_of(
    kept: Iterable[Kept], composition: str, serving: Mapping[str, str], tried: Mapping[str, str]
) -> Shadow:
    """Reads both maps at the rows of a composition's decisions. ``serving`` and ``tried``: row to expert."""
    asked = [each.cluster for each in kept if each.composition == composition]
    rows = [row for row in asked if row in serving and row in tried]
    moves = Counter((serving[row], tried[row]) for row in rows if serving[row] != tried[row])
    return Shadow(len(rows), dict(moves.most_common()))


def trial_of(
    kept: Iterable[Kept], composition: str, serving: Mapping[str, str], tried: Mapping[str, str]
) -> Trial:
    """Compares decisions of a composition. ``serving`` and ``tried``: row to expert. A decision whose expert
    is neither map's, since another stood in, is of no arm."""
    arms: dict[str, list[Kept]] = {"canary": [], "incumbent": []}
    for each in kept:
        row = each.cluster
        if each.composition != composition or row not in serving or row not in tried:
            continue
        if serving[row] != tried[row] and each.expert in (serving[row], tried[row]):
            arms["canary" if each.expert == tried[row] else "incumbent"].append(each)
    return Trial(Arm.of(arms["canary"]), Arm.of(arms["incumbent"]))
