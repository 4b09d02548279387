"""The state of a gateway as sections of rows in JSON, of which only those that changed are sent again."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from experts.engines.engine import EngineStatistics
from memory_tiers.status import EngineStatus, MoveProgress
from server.live.story_view import row_of
from server.observation.story import Story
from server.services import NodeServices

Rows = Mapping[str, bytes]
"""A section: key to row."""
Sections = Mapping[str, Rows]


@dataclass(frozen=True, slots=True)
class Moment:
    """Parts of a state beside what can be read at any time. ``at``: seconds since 1970.
    ``statistics``: of the engines that answer."""

    at: float
    pages: int
    statistics: Mapping[str, EngineStatistics]


class SectionReader:
    """Reads the state of ``services``. Rows of requests that have ended are written once."""

    def __init__(self, services: NodeServices) -> None:
        self._services = services
        self._written: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"<SectionReader with {len(self._written)} requests>"

    def read(self, moment: Moment) -> Sections:
        """Reads all sections as of now."""
        tiers = self._services.tiers
        return {
            "gateway": _written([("gateway", self._gateway(moment))]),
            "tiers": {each.tier: orjson.dumps(each) for each in tiers.usage()},
            "engines": _written(self._engines(moment)),
            "experts": _written(self._experts()),
            "moves": _written((f"{move.expert}>{move.target}", _move(move)) for move in tiers.progress()),
            "requests": self._requests(),
        }

    def _gateway(self, moment: Moment) -> dict[str, Any]:
        services = self._services
        counts = services.tiers.counts()
        return {
            "version": services.version,
            "started": services.started,
            "ready": services.tiers.readiness.ready,
            "draining": services.draining,
            "compositions": [*services.settings.compositions],
            "prompts": services.settings.observation.prompts,
            "requests": services.observer.stories.live,
            "waiting": counts.waiting,
            "leases": counts.leases,
            "pages": moment.pages,
        }

    def _engines(self, moment: Moment) -> Iterator[tuple[str, Any]]:
        for engine in self._services.tiers.readiness.engines:
            yield engine.family, _engine(engine, moment.statistics.get(engine.family))

    def _experts(self) -> Iterator[tuple[str, Any]]:
        services = self._services
        for status in services.tiers.status():
            expert = services.experts.get(status.expert)  # None: a reload removed it, and it is in use still
            yield (
                status.expert,
                {
                    "family": status.family,
                    "tier": status.tier,
                    "device": status.device,
                    "host": status.host,
                    "pinned": status.pinned,
                    "default": status.default,
                    "ttl_s": status.ttl_s,
                    "leases": status.leases,
                    "waiting": status.waiting,
                    "weights_bytes": status.weights_bytes,
                    "device_bytes": status.device_bytes,
                    "host_bytes": status.host_bytes,
                    "image": status.image,
                    "ordered": status.ordered,
                    "failure": status.failure,
                    "breaker_open": expert is not None and services.breakers.is_open(expert),
                    "description": "" if expert is None else expert.description,
                    "task": "generate" if expert is None else expert.task,
                    "parameters": None if expert is None else expert.parameters,
                },
            )

    def _requests(self) -> Rows:
        stories = self._services.observer.stories
        rows = {story.number: self._row(story) for story in stories}
        self._written = {number: self._written[number] for number in rows if number in self._written}
        return {str(number): row for number, row in rows.items()}

    def _row(self, story: Story) -> bytes:
        row = self._written.get(story.number)
        if row is None:
            row = orjson.dumps(row_of(story, self._services.observer.clock()))
            if story.ended_at is not None:
                self._written[story.number] = row
        return row


def snapshot(sections: Sections, at: float) -> bytes:
    """Writes the whole state."""
    rows = {name: {key: orjson.Fragment(row) for key, row in rows.items()} for name, rows in sections.items()}
    return orjson.dumps({"at": at, **rows})


def delta(before: Sections, now: Sections, at: float) -> bytes | None:
    """Writes what changed: ``set`` has new rows and changed ones whole, ``drop`` the keys of those that are
    gone. None: nothing changed."""
    changed = {
        name: {key: orjson.Fragment(row) for key, row in rows.items() if before[name].get(key) != row}
        for name, rows in now.items()
    }
    gone = {name: [key for key in rows if key not in now[name]] for name, rows in before.items()}
    set_, drop = {k: v for k, v in changed.items() if v}, {k: v for k, v in gone.items() if v}
    return orjson.dumps({"at": at, "set": set_, "drop": drop}) if set_ or drop else None


def _written(rows: Iterable[tuple[str, Any]]) -> Rows:
    return {key: orjson.dumps(row) for key, row in rows}


def _move(move: MoveProgress) -> dict[str, Any]:
    """``moved``: bytes so far, and ``bytes_per_s``, where they can be told."""
    moved = None if move.done is None else int(move.done * move.bytes)
    return {
        "expert": move.expert,
        "source": move.source,
        "target": move.target,
        "reason": move.reason,
        "bytes": move.bytes,
        "moved": moved,
        "bytes_per_s": moved / move.seconds if moved and move.seconds > 0 else None,
        "seconds": round(move.seconds, 3),
        "done": move.done,
        "remaining_s": move.remaining_s,
    }


def _engine(engine: EngineStatus, statistics: EngineStatistics | None) -> dict[str, Any]:
    return {
        "state": engine.state,
        "starts": engine.starts,
        "detail": engine.detail,
        "rests": engine.rests,
        "bound_hits": engine.bound_hits,
        "active": None if statistics is None else statistics.active,
        "running": None if statistics is None else statistics.running,
        "switches": None if statistics is None else statistics.switches,
        "switch_seconds": None if statistics is None else statistics.switch_seconds,
        "busy_seconds": None if statistics is None else statistics.busy_seconds,
    }
