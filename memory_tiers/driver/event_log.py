"""Records every event of the tiers and the actions that followed, as JSON lines that replay to the same."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from memory_tiers import events
from memory_tiers.actions import Action, Move
from memory_tiers.errors import LogUnwritable
from memory_tiers.events import Event
from memory_tiers.members import Family, Member, Revision
from memory_tiers.replay import Replay, replay
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig

log = logging.getLogger("coe.tiers")

VERSION = 3
_FAMILY = TypeAdapter(Family)
_EVENTS = {kind.__name__: TypeAdapter(kind) for kind in get_args(events.Event)}


class EventLog:
    """Appends to a file that begins with what the state was made of. A line is written through at once, so
    that the log of a killed process ends with its last event. A full disk ends the log; the tiers go on."""

    def __init__(
        self,
        path: Path,
        config: TiersConfig,
        members: Sequence[Member],
        families: Sequence[Family],
    ) -> None:
        """Begins the file in place of one that is there. Raises LogUnwritable."""
        self._ended = False
        made_of = {
            "version": VERSION,
            "config": config.model_dump(mode="json"),
            "members": [dataclasses.asdict(member) for member in members],
            "families": [dataclasses.asdict(family) for family in families],
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8", buffering=1)
            try:
                self._file.write(json.dumps(made_of) + "\n")
            except OSError:
                with suppress(OSError):  # closing writes what is still buffered
                    self._file.close()
                raise
        except OSError as error:
            raise LogUnwritable(f"tiers.event_log {path}: cannot be written: {error.strerror}") from error

    def write(self, event: Event, actions: Sequence[Action]) -> None:
        """Appends one event and what followed from it."""
        if self._ended:
            return
        line = json.dumps({"event": _tree(event), "actions": [_tree(a) for a in actions]})
        try:
            self._file.write(line + "\n")
        except OSError as error:
            self._ended = True
            log.error("%s ends here, what follows is not recorded: %s", self._file.name, error)

    def close(self) -> None:
        """Ends the file; an error is logged."""
        try:
            self._file.close()
        except OSError as error:  # closing writes what is still buffered
            if not self._ended:
                log.error("%s lacks its end: %s", self._file.name, error)

    def __repr__(self) -> str:
        return f"<EventLog {self._file.name}>"


def replayed(path: Path) -> Replay:
    """Feeds the recorded events to a new state. Raises LogUnreadable."""
    return replay(path, _state, _event, _tree)


def _state(made_of: Any) -> TierState:
    if made_of["version"] != VERSION:
        raise ValueError(f"version {made_of['version']}, this program writes {VERSION}")
    members = [Member(**member) for member in made_of["members"]]
    families = [_FAMILY.validate_python(family) for family in made_of["families"]]
    return TierState(TiersConfig.model_validate(made_of["config"]), members, families)


def _tree(what: Event | Action) -> dict[str, Any]:
    fields = {field.name: getattr(what, field.name) for field in dataclasses.fields(what)}
    for name, value in fields.items():
        if isinstance(value, Move | Member | Revision):
            fields[name] = dataclasses.asdict(value)
    return {"type": type(what).__name__, **fields}


def _event(tree: dict[str, Any]) -> Event:
    fields = dict(tree)
    event: Event = _EVENTS[fields.pop("type")].validate_python(fields)
    return event
