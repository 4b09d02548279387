"""The bound on waiting, read from the event log of the tiers.

Once a ticket is older than ``max_wait_s``, only those experts come before its own for which somebody has
waited longer. Each of them takes a turn at most: the answers under way end, somebody leaves, and it is read
and loaded. So does the ticket's own expert. And when the ticket comes of age, the turn of any other may be
under way.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Wait:
    """Of one ticket. ``ahead``: experts for which somebody waited longer when it came of age."""

    expert: str
    seconds: float
    ahead: int


@dataclass(frozen=True, slots=True)
class Waits:
    """In seconds. ``turn``: the longest answer, then the longest move between each two tiers."""

    max_wait: float
    turn: float
    waits: tuple[Wait, ...]

    @property
    def overdue(self) -> list[Wait]:
        return [wait for wait in self.waits if wait.seconds > self.max_wait]

    def bound(self, wait: Wait) -> float:
        return self.max_wait + (wait.ahead + 2) * self.turn


def read_waits(log: Path) -> Waits:
    """Of all tickets that were granted; of a log without deaths."""
    made_of, *lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    max_wait = float(made_of["config"]["max_wait_s"])
    asked: dict[int, tuple[str, float]] = {}
    granted: dict[int, float] = {}
    longest_lease = 0.0
    for line in lines:
        event = line["event"]
        if event["type"] == "TicketAsked":
            asked[event["ticket"]] = event["expert"], event["at"]
        elif event["type"] == "LeaseReleased":
            longest_lease = max(longest_lease, event["at"] - granted[event["ticket"]])
        granted |= {each["ticket"]: event["at"] for each in line["actions"] if each["type"] == "Grant"}
    waits = (
        Wait(expert, granted[ticket] - at, _ahead(expert, at, at + max_wait, asked, granted))
        for ticket, (expert, at) in asked.items()
        if ticket in granted
    )
    return Waits(max_wait, longest_lease + _longest_moves(lines), tuple(waits))


def _ahead(
    own: str, since: float, at: float, asked: dict[int, tuple[str, float]], granted: dict[int, float]
) -> int:
    waiting = {
        expert
        for ticket, (expert, began) in asked.items()
        if began <= since and granted.get(ticket, float("inf")) > at
    }
    return len(waiting - {own})


def _longest_moves(lines: list[dict[str, Any]]) -> float:
    longest: defaultdict[tuple[str, str], float] = defaultdict(float)
    for between, seconds in _moves(lines):
        longest[between] = max(longest[between], seconds)
    return sum(longest.values())


def _moves(lines: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], float]]:
    """Source and target of each move that has ended, and its seconds."""
    begun: dict[tuple[str, str, str], float] = {}
    for line in lines:
        event = line["event"]
        if event["type"] == "MoveFinished":
            move = event["move"]
            between = move["source"], move["target"]
            yield between, event["at"] - begun.pop((move["expert"], *between))
        for action in line["actions"]:
            if action["type"] == "Move":
                begun[action["expert"], action["source"], action["target"]] = event["at"]
