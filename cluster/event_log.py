"""Records every event of a placement and the actions that followed, as JSON lines that replay to the same."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from cluster.errors import LogUnreadable, LogUnwritable
from cluster.placement import events
from cluster.placement.actions import Action
from cluster.placement.events import Event, PlacedExpert
from cluster.placement.placement_state import PlacementState
from cluster.placement.rules import PlacementRules

VERSION = 1
_EVENTS = {kind.__name__: TypeAdapter(kind) for kind in get_args(events.Event)}


class PlacementLog:
    """Appends to a file that begins with what the state was made of. A line is written through at once."""

    def __init__(self, path: Path, rules: PlacementRules, experts: Sequence[PlacedExpert], term: int) -> None:
        """Begins the file in place of one that is there. Raises LogUnwritable."""
        made_of = {
            "version": VERSION,
            "rules": rules.model_dump(mode="json"),
            "experts": [dataclasses.asdict(expert) for expert in experts],
            "term": term,
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8", buffering=1)
            self._file.write(json.dumps(made_of) + "\n")
        except OSError as error:
            raise LogUnwritable(f"{path}: cannot be written: {error.strerror}") from error

    def write(self, event: Event, actions: Sequence[Action]) -> None:
        """Appends one event and what followed from it. Raises LogUnwritable."""
        try:
            self._file.write(
                json.dumps({"event": _tree(event), "actions": [_tree(a) for a in actions]}) + "\n"
            )
        except OSError as error:
            raise LogUnwritable(f"{self._file.name}: ends here: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()

    def __repr__(self) -> str:
        return f"<PlacementLog {self._file.name}>"


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay. ``different``: the first line, counted from 1, whose actions are not the
    recorded ones, with the recorded and the new ones; None where all agree."""

    events: int
    different: tuple[int, list[Any], list[Any]] | None


def replay(path: Path) -> Replay:
    """Feeds the recorded events to a new state and compares its actions with the recorded ones. Raises
    LogUnreadable naming the line."""
    lines = _lines(path)
    number, made_of = next(lines, (1, None))
    try:
        state = _state(made_of)
    except (KeyError, TypeError, ValueError) as error:
        raise LogUnreadable(
            f"{path}, line {number}: not the beginning of a placement log: {error!r}"
        ) from error
    count = 0
    for number, line in lines:
        try:
            event, recorded = _event(line["event"]), line["actions"]
        except (KeyError, TypeError, ValueError) as error:
            raise LogUnreadable(f"{path}, line {number}: not an event: {error!r}") from error
        count += 1
        done = json.loads(json.dumps([_tree(action) for action in state.handle(event)]))
        state.check()
        if done != recorded:
            return Replay(count, (number, recorded, done))
    return Replay(count, None)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the lines with their numbers, without a last one that was cut off."""
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


def _state(made_of: Any) -> PlacementState:
    if made_of["version"] != VERSION:
        raise ValueError(f"version {made_of['version']}, this program writes {VERSION}")
    experts = [PlacedExpert(**expert) for expert in made_of["experts"]]
    return PlacementState(PlacementRules.model_validate(made_of["rules"]), experts, made_of["term"])


def _tree(what: Event | Action) -> dict[str, Any]:
    return {"type": type(what).__name__, **dataclasses.asdict(what)}


def _event(tree: dict[str, Any]) -> Event:
    fields = dict(tree)
    event: Event = _EVENTS[fields.pop("type")].validate_python(fields)
    return event
