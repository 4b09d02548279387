"""Shares of the categories in live traffic: how far they are from training's, and a score table with them."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from router.mapping.score_table import ScoreTable

WINDOW = 1000
"""Decisions that are looked back at. Where nothing has changed, the drift of so many is about 0.05."""
FEWEST = 200
"""Decisions that say something."""
PRIOR = 300.0
"""Imagined decisions with training's shares, so that a row that has not come up keeps its expert."""


class Drift:
    """How far the categories of the latest decisions are from what is expected. One thread only."""

    def __init__(self, expected: Mapping[str, float]) -> None:
        """``expected``: category to its share."""
        self.expected = dict(expected)
        self._latest: deque[str] = deque(maxlen=WINDOW)
        self._counts: Counter[str] = Counter()

    def add(self, category: str) -> None:
        """Takes in one decision."""
        if len(self._latest) == WINDOW:
            self._counts[self._latest[0]] -= 1
        self._latest.append(category)
        self._counts[category] += 1

    @property
    def value(self) -> float | None:
        """The part of the decisions that would have to be of other categories, from 0 to 1 (the total
        variation distance); None: there were too few."""
        count = len(self._latest)
        if count < FEWEST:
            return None
        names = self.expected.keys() | self._counts.keys()
        apart = (abs(self._counts[name] / count - self.expected.get(name, 0.0)) for name in names)
        return sum(apart) / 2


def label_shares(table: ScoreTable, finer: Mapping[str, str]) -> dict[str, float]:
    """Label to the share of its rows. ``finer``: finer category to its label."""
    shares: defaultdict[str, float] = defaultdict(float)
    for row, share in table.share_of().items():
        shares[finer.get(row, row)] += share
    return dict(shares)


def with_shares(table: ScoreTable, rows: Iterable[str], prior: float = PRIOR) -> ScoreTable:
    """The table with the shares of live decisions. ``rows``: of each decision; those that the table does not
    have do not count. ``prior``: decisions that training's shares are worth."""
    counts = Counter(rows)
    seen = np.array([counts[row] for row in table.categories], dtype=np.float64)
    shares = seen + prior * table.shares
    return replace(table, shares=shares / shares.sum())
