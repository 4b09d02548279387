"""Writes observations as lines of the log: each move and what it cost, each change of an engine."""

import logging
from dataclasses import dataclass
from typing import assert_never

from memory_tiers.observations import (
    Displaced,
    EngineChanged,
    LeaseEnded,
    LeaseGranted,
    MoveDone,
    Observation,
    TicketEnded,
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log."""

    level: int
    text: str


def line_of(observation: Observation) -> Line | None:
    """Makes the line of an observation; None for one that concerns a single request, which the gateway
    logs."""
    match observation:
        case LeaseGranted() | LeaseEnded() | TicketEnded():
            return None
        case MoveDone():
            return Line(
                logging.WARNING if observation.outcome == "failed" else logging.INFO, _move(observation)
            )
        case Displaced(expert, reason, age_s):
            return Line(logging.INFO, f"displaced expert={expert} reason={reason} age_s={age_s:.1f}")
        case EngineChanged():
            return Line(logging.ERROR if observation.state == "dead" else logging.INFO, _engine(observation))
        case _:
            assert_never(observation)


def _move(move: MoveDone) -> str:
    text = (
        f"move expert={move.expert} from={move.source} to={move.target} reason={move.reason} "
        f"outcome={move.outcome} seconds={move.seconds:.3f} bytes={move.bytes}"
    )
    if move.age_s is not None:
        text += f" age_s={move.age_s:.1f}"
    elif move.bytes and move.seconds > 0:
        text += f" GB/s={move.bytes / move.seconds / 1e9:.3f}"
    return text + _because(move.detail)


def _engine(change: EngineChanged) -> str:
    text = f"engine family={change.family} state={change.state} starts={change.starts}"
    if change.seconds > 0:
        text += f" seconds={change.seconds:.3f}"
    return text + _because(change.detail)


def _because(detail: str) -> str:
    return f": {detail}" if detail else ""
