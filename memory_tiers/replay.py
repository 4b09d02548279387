"""Replays a file of events: its first line makes a state, each other one is an event with the actions that
followed from it, as JSON."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from memory_tiers.errors import LogUnreadable

Event = TypeVar("Event", contravariant=True)
Action = TypeVar("Action", covariant=True)


class Deciding(Protocol[Event, Action]):
    """A state that takes events and returns actions, without waiting or I/O."""

    def handle(self, event: Event) -> Sequence[Action]: ...

    def check(self) -> None:
        """Asserts the invariants."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay. ``different``: the first line, counted from 1, whose actions are not the
    recorded ones, with the recorded and the new ones; None where all agree."""

    events: int
    different: tuple[int, list[Any], list[Any]] | None


def replay(
    path: Path,
    state_of: Callable[[Any], Deciding[Event, Action]],
    event_of: Callable[[dict[str, Any]], Event],
    tree_of: Callable[[Action], dict[str, Any]],
) -> Replay:
    """Feeds the recorded events to a new state and compares its actions with the recorded ones. Raises
    LogUnreadable naming the line. ``state_of`` and ``event_of`` raise KeyError, TypeError or ValueError for
    lines that are of no such log, or of another version's."""
    lines = _lines(path)
    number, made_of = next(lines, (1, None))
    try:
        state = state_of(made_of)
    except (KeyError, TypeError, ValueError) as error:
        raise LogUnreadable(f"{path}, line {number}: not the beginning of an event log: {error!r}") from error
    count = 0
    for number, line in lines:
        try:
            event, recorded = event_of(line["event"]), line["actions"]
        except (KeyError, TypeError, ValueError) as error:
            raise LogUnreadable(f"{path}, line {number}: not an event: {error!r}") from error
        count += 1
        # By way of JSON, as what was recorded: a tuple is a list there.
        done = json.loads(json.dumps([tree_of(action) for action in state.handle(event)]))
        state.check()
        if done != recorded:
            return Replay(count, (number, recorded, done))
    return Replay(count, None)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the lines with their numbers, without a last one that was cut off when the process was
    killed."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LogUnreadable(f"{path}: {error}") from error
    *whole, _ = text.split("\n")
    for number, line in enumerate(whole, 1):
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise LogUnreadable(f"{path}, line {number}: not JSON: {error}") from error
