"""Workload of ``coe bench engine``: questions, their order, and the number of streams. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, assert_never

Kind = Literal["alternating", "bursty"]
KINDS: tuple[Kind, ...] = ("alternating", "bursty")
_SUBJECTS = ("the sea", "a river", "old clocks", "green tea", "the moon", "bridges", "wool", "winter")


@dataclass(frozen=True, slots=True)
class Question:
    """One request: for which expert, and what."""

    expert: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: so many streams keep asking so many experts."""

    kind: Kind
    experts: int
    streams: int

    def __str__(self) -> str:
        return f"{self.kind}, {self.experts} experts, {self.streams} streams"


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of the measurements. ``tokens`` of each answer; ``requests`` of each stream; ``burst`` requests in
    a row for one expert; the whole is done ``repeat`` times."""

    experts: tuple[int, ...]
    streams: tuple[int, ...]
    tokens: int
    requests: int
    burst: int
    repeat: int

    def problem(self) -> str | None:
        """Says why these numbers do not go together; None when they do."""
        asked, needed = min(self.streams) * self.requests, max(self.experts) * self.burst
        if asked >= needed:
            return None
        return (
            f"bursts of {self.burst} for {max(self.experts)} experts are {needed} requests, but "
            f"{min(self.streams)} streams ask {asked}: lower --burst or raise --requests"
        )

    def counts(self) -> tuple[int, ...]:
        """How many experts, ascending; always one of them alone, to compare with."""
        return tuple(sorted({1, *self.experts}))

    def cells(self, experts: int, *, same_batches: bool = False) -> list[Cell]:
        """The cells of so many experts. ``same_batches``: one expert also gets as few streams as each of
        several has of all, so that batches of equal size can be compared."""
        if experts > 1:
            return [Cell(kind, experts, streams) for kind in KINDS for streams in sorted(set(self.streams))]
        streams = set(self.streams)
        if same_batches:
            streams |= {share(each, count) for each in self.streams for count in self.counts()}
        return [Cell("alternating", 1, each) for each in sorted(streams)]

    def questions(self, cell: Cell, names: Sequence[str], salt: str) -> Iterator[Question]:
        """All requests of a cell in order. Equal for every rival, and different from its first token on from
        every other of this or another cell and ``salt``, so that nothing is answered from a prefix cache."""
        order = experts_in_order(cell.kind, names[: cell.experts], self.burst)
        for number, expert in enumerate(islice(order, cell.streams * self.requests)):
            subject = _SUBJECTS[number % len(_SUBJECTS)]
            yield Question(expert, f"{number}, {salt}, {cell}: tell me all about {subject}.")


def experts_in_order(kind: Kind, names: Sequence[str], burst: int) -> Iterator[str]:
    """Yields experts without end."""
    match kind:
        case "alternating":
            in_a_row = 1
        case "bursty":
            in_a_row = burst
        case unreachable:
            assert_never(unreachable)
    while True:
        for name in names:
            for _ in range(in_a_row):
                yield name


def share(streams: int, experts: int) -> int:
    """Streams of each expert when ``streams`` alternate."""
    return max(1, streams // experts)
