"""Stories as they are told: one row of a list, or all that is known of a request."""

from collections.abc import Iterator
from typing import Any

from memory_tiers.observations import Displaced, EngineChanged, MoveDone
from server.observation.observer import Observer
from server.observation.story import Story
from server.observation.tier_events import Happened
from server.routing.eligibility import why
from server.routing.explanation import Decided


def row_of(story: Story, now: float) -> dict[str, Any]:
    """Tells a request in a row. ``began``: seconds since 1970. ``phases``: name, start and seconds from
    there; the one under way has none yet, so that the row changes only when there is something new."""
    route = story.route
    decision = None if route is None else route.decision
    return {
        "id": story.id,
        "began": round(story.came, 3),
        "state": story.state,
        "path": story.path,
        "key": story.key,
        "model": story.model[:100],
        "expert": story.expert,
        "category": None if decision is None else decision.category,
        "confidence": None if decision is None else round(decision.confidence, 3),
        "uncertain": None if decision is None else decision.uncertain,
        "by": None if route is None else route.by,
        "stream": story.stream,
        "tier": story.tier,
        "phases": list(_phases(story, now)),
        "tokens_in": story.tokens.prompt_tokens,
        "tokens_out": story.tokens.completion_tokens,
        "tokens_per_s": _rounded(story.tokens_per_s(now), 1),
        "outcome": story.outcome,
        "error": story.error[:300],
    }


def story_of(story: Story, observer: Observer, family: str) -> dict[str, Any]:
    """Tells all that is known of a request. ``family``: its expert's; empty where there is none."""
    now = observer.clock()
    route = story.route
    choice = None if route is None else route.choice
    ended = now if story.ended_at is None else story.ended_at
    begun = story.started if story.route_at is None else story.route_at
    moves = observer.tier_events.during(begun, ended, story.expert, family) if story.expert else []
    return {
        **row_of(story, now),
        "phases": [(phase.name, phase.start, phase.seconds) for phase in story.phases(now)],
        "seconds": ended - story.started,
        "peer": story.peer,
        "trace_id": story.trace_id or None,
        "first_seconds": story.first_seconds,
        "cached_tokens": story.tokens.cached_tokens,
        "composition": None if route is None else route.composition or None,
        "in_place_of": None if route is None else route.in_place_of or None,
        "budget": story.model.partition(":")[2] or None
        if route is not None and route.by == "budget"
        else None,
        "decided": None if choice is None else Decided.of(choice, story.map_source).model_dump(mode="json"),
        "ruled_out": [
            {"expert": name, "reason": reason, "message": f"{name} {why(reason)}"}
            for name, reason in (route.ruled_out if route is not None else {}).items()
        ],
        "lease": {
            "tries": story.tries,
            "tier": story.tier,
            "queue_seconds": story.queue_seconds,
            "load_seconds": story.load_seconds,
        },
        "moves": [_told(each, story) for each in moves],
        "prompt": story.prompt or None,
        "cancellable": story.cancel is not None,
        "log": [
            {"at": line.at, "level": line.level, "logger": line.logger, "text": line.text}
            for line in observer.log_lines.about(story.id, story.came, story.came + ended - story.started)
        ],
    }


def _phases(story: Story, now: float) -> Iterator[tuple[str, float, float | None]]:
    phases = list(story.phases(now))
    for phase in phases:
        goes_on = story.ended_at is None and phase is phases[-1]
        yield phase.name, round(phase.start, 4), None if goes_on else round(phase.seconds, 4)


def _told(happened: Happened, story: Story) -> dict[str, Any]:
    """Tells an event of the tiers. ``ended``: seconds since the request came."""
    event = happened.event
    told: dict[str, Any] = {"ended": happened.at - story.started}
    match event:
        case MoveDone():
            return told | {
                "kind": "move",
                "expert": event.expert,
                "source": event.source,
                "target": event.target,
                "reason": event.reason,
                "outcome": event.outcome,
                "bytes": event.bytes,
                "seconds": event.seconds,
                "made_room_for": event.beneficiary,
                "detail": event.detail,
            }
        case Displaced():
            return told | {
                "kind": "displaced",
                "expert": event.expert,
                "reason": event.reason,
                "age_s": event.age_s,
                "made_room_for": event.beneficiary,
            }
        case EngineChanged():
            return told | {
                "kind": "engine",
                "family": event.family,
                "state": event.state,
                "seconds": event.seconds,
                "detail": event.detail,
            }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
