"""Records every event of a placement and the actions that followed, as JSON lines that replay to the same."""

import dataclasses
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from cluster.placement import events
from cluster.placement.actions import Action
from cluster.placement.events import Event, PlacedExpert
from cluster.placement.placement_state import PlacementState
from cluster.placement.rules import PlacementRules
from memory_tiers.errors import LogUnwritable
from memory_tiers.replay import Replay, replay

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
            self._write(made_of)
        except OSError as error:
            raise LogUnwritable(f"{path}: cannot be written: {error.strerror}") from error

    def write(self, event: Event, actions: Sequence[Action]) -> None:
        """Appends one event and what followed from it. Raises LogUnwritable."""
        try:
            self._write({"event": _tree(event), "actions": [_tree(action) for action in actions]})
        except OSError as error:
            raise LogUnwritable(f"{self._file.name}: ends here: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        """Appends a line. Closes the file where it cannot: closing writes what is still buffered. Raises
        OSError."""
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError:
            with suppress(OSError):
                self._file.close()
            raise

    def __repr__(self) -> str:
        return f"<PlacementLog {self._file.name}>"


def replayed(path: Path) -> Replay:
    """Feeds the recorded events to a new state. Raises LogUnreadable."""
    return replay(path, _state, _event, _tree)


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
