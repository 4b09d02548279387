"""The embedded composition beside each of its experts: numbers of every text to a table with intervals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One text. ``nats``: of each expert, the loss summed over the scored ``tokens``."""

    id: str
    domain: str
    tokens: int
    nats: Mapping[str, float]
    chosen: Mapping[str, str]
    """A router's name to the expert it chose; routers that learned from this text are missing."""


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way to choose an expert for each text."""

    name: str
    perplexity: Mapping[str, float]
    """For each domain."""
    overall: Interval
    """Every domain counts the same: exp of the mean, over domains, of the loss per token."""
    composition_lower: Interval
    """The share of this way's perplexity by which the composition's is lower; below 0 where it is higher."""


@dataclass(frozen=True, slots=True)
class Comparison:
    router: str
    texts: Mapping[str, int]
    """For each domain."""
    tokens: int
    ways: tuple[Way, ...]
    """The experts, ``composition``, ``own expert`` (the domain is known) and ``best expert`` (for each text,
    known afterwards)."""
    own_expert_chosen: Interval
    """Share of texts whose domain's expert the router chose; every domain counts the same."""

    def way(self, name: str) -> Way:
        return next(way for way in self.ways if way.name == name)

    @property
    def experts(self) -> tuple[Way, ...]:
        return self.ways[:-3]

    @property
    def best_single(self) -> Way:
        return min(self.experts, key=lambda way: way.overall.value)


def read_rows(file: Path) -> list[Row]:
    return [Row(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(rows: Sequence[Row], file: Path) -> None:
    file.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


def compare(rows: Sequence[Row], router: str, seed: int = 0) -> Comparison:
    """On the texts that ``router`` has not learned from. Intervals are 95 %, by a paired bootstrap over the
    texts of each domain."""
    rows = [row for row in rows if router in row.chosen]
    experts = list(rows[0].nats)
    domains = [expert for expert in experts if any(row.domain == expert for row in rows)]
    names = [*experts, "composition", "own expert", "best expert"]
    random = np.random.default_rng(seed)
    losses: dict[str, NDArray[np.float64]] = {}
    drawn_losses, drawn_shares, shares = [], [], []
    for domain in domains:
        there = [row for row in rows if row.domain == domain]
        nats = np.array([_nats(row, router, experts) for row in there])
        tokens = np.array([row.tokens for row in there])
        own = np.array([row.chosen[router] == domain for row in there])
        draws = random.multinomial(len(there), np.full(len(there), 1 / len(there)), size=DRAWS)
        losses[domain] = nats.sum(axis=0) / tokens.sum()
        shares.append(own.mean())
        drawn_losses.append((draws @ nats) / (draws @ tokens)[:, None])
        drawn_shares.append(draws @ own / len(there))
    overall = np.mean(list(losses.values()), axis=0)
    drawn = np.mean(drawn_losses, axis=0)
    composition = names.index("composition")
    ways = tuple(
        Way(
            name,
            {domain: float(np.exp(loss[way])) for domain, loss in losses.items()},
            _interval(np.exp(overall[way]), np.exp(drawn[:, way])),
            _interval(
                1 - np.exp(overall[composition] - overall[way]),
                1 - np.exp(drawn[:, composition] - drawn[:, way]),
            ),
        )
        for way, name in enumerate(names)
    )
    return Comparison(
        router,
        {domain: sum(row.domain == domain for row in rows) for domain in domains},
        sum(row.tokens for row in rows),
        ways,
        _interval(np.mean(shares), np.mean(drawn_shares, axis=0)),
    )


def _nats(row: Row, router: str, experts: Sequence[str]) -> list[float]:
    """One number for each way."""
    singles = [row.nats[expert] for expert in experts]
    return [*singles, row.nats[row.chosen[router]], row.nats[row.domain], min(singles)]


def _interval(value: float, drawn: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def markdown(found: Comparison) -> str:
    """Ways down, domains across."""
    domains = [f"{domain} ({count})" for domain, count in found.texts.items()]
    cells = [
        [way.name, *(f"{value:.2f}" for value in way.perplexity.values()), bounded(way.overall), _lower(way)]
        for way in found.ways
    ]
    return _table(["every text to", *domains, "all", "the composition is lower by"], cells)


def _lower(way: Way) -> str:
    return "-" if way.name == "composition" else percent(way.composition_lower)


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def bounded(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def percent(interval: Interval) -> str:
    value, low, high = (f"{100 * part:.1f}" for part in (interval.value, interval.low, interval.high))
    return f"{value} % [{low}, {high}]"


def summary(found: Comparison) -> str:
    """The test's size, how often the router chose the domain's expert, and the rival."""
    texts = ", ".join(f"{count} {domain}" for domain, count in found.texts.items())
    return (
        f"{found.router}: {sum(found.texts.values())} texts ({texts}), {found.tokens:,} tokens; "
        f"the router chose the domain's expert for {percent(found.own_expert_chosen)}; the best single "
        f"expert is {found.best_single.name}, and the composition lower by "
        f"{percent(found.best_single.composition_lower)}"
    )
