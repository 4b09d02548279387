"""What the tiers did is written down, and leads to the same again."""

import errno
import json
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memory_tiers.actions import Action
from memory_tiers.driver.event_log import EventLog, replayed
from memory_tiers.errors import LogUnreadable, LogUnwritable
from memory_tiers.events import Event
from memory_tiers.members import Family
from memory_tiers.state.state_machine import TierState
from tests.memory_tiers.traces.test_tier_state_random import World, a_world, walk


class Recorded(TierState):
    """Tells a log of everything."""

    log: EventLog

    def handle(self, event: Event) -> list[Action]:
        actions = super().handle(event)
        self.log.write(event, actions)
        return actions


def recorded(path: Path, seed: int) -> World:
    world = a_world(random.Random(seed), failing=0.2, surprise=0.5)
    members = [*world.members.values()]
    families = [
        Family(engine.family, engine.resident_limit, engine.held, engine.parts)
        for engine in world.state._records.engines.values()
    ]
    state = Recorded(world.state._config, members, families)
    state.log = EventLog(path, world.state._config, members, families)
    world.state = state
    walk(world, steps=200, deaths=0.3, changes=0.3)
    state.log.close()
    return world


@pytest.mark.parametrize("seed", range(20))
def test_recorded_events_lead_to_the_recorded_actions(tmp_path: Path, seed: int) -> None:
    recorded(tmp_path / "log", seed)
    again = replayed(tmp_path / "log")
    assert again.different is None
    assert again.events > 30


def test_a_difference_is_shown_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    recorded(path, 1)
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines[1:], 2) if json.loads(line)["actions"])
    changed = json.loads(lines[number - 1])
    was, changed["actions"] = changed["actions"], []
    lines[number - 1] = json.dumps(changed)
    path.write_text("\n".join(lines) + "\n")
    assert replayed(path).different == (number, [], was)


def test_a_log_whose_end_was_cut_off_replays_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    recorded(path, 2)
    whole = replayed(path).events
    path.write_text(path.read_text()[:-5])
    assert replayed(path).events == whole - 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not the beginning"),
        ("{}\n", "not the beginning"),
        ('{"version": 99}\n', "version 99"),
        ("nonsense\n", "line 1: not JSON"),
    ],
)
def test_what_is_no_log_is_refused_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(LogUnreadable, match=says):
        replayed(path)


def test_an_unknown_event_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    recorded(path, 3)
    with path.open("a") as file:
        file.write('{"event": {"type": "Earthquake", "at": 1}, "actions": []}\n')
    with pytest.raises(LogUnreadable, match=r"line \d+: not an event"):
        replayed(path)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LogUnreadable, match="No such file"):
        replayed(tmp_path / "missing")


def test_a_log_that_cannot_be_begun_is_refused(tmp_path: Path) -> None:
    world = a_world(random.Random(1), failing=0.0, surprise=0.0)
    with pytest.raises(LogUnwritable, match="Is a directory"):
        EventLog(tmp_path, world.state._config, [*world.members.values()], [])
    with files_of_at_most(100), pytest.raises(LogUnwritable, match="File too large"):
        EventLog(tmp_path / "log", world.state._config, [*world.members.values()], [])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond ``size`` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_the_log_ends_and_the_tiers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, written = tmp_path / "log", EventLog.write

    def until_full(log: EventLog, *event: Any) -> None:
        if not log._ended and path.stat().st_size > 20_000:
            log._file.close()
            monkeypatch.setattr(log, "_file", Full(log._file))
        written(log, *event)

    monkeypatch.setattr(EventLog, "write", until_full)
    recorded(path, 1)
    assert caplog.text.count("ends here, what follows is not recorded") == 1
    assert replayed(path).different is None


class Full:
    """A file on a disk that has become full."""

    def __init__(self, file: Any) -> None:
        self.name = file.name

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.write("")
