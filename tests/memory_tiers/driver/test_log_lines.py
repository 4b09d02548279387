"""Every move is one line of the log that says what it cost."""

import logging

import pytest

from memory_tiers.driver.log_lines import Line, line_of
from memory_tiers.observations import (
    Displaced,
    EngineChanged,
    LeaseEnded,
    LeaseGranted,
    MoveDone,
    Observation,
    TicketEnded,
)


@pytest.mark.parametrize(
    ("observation", "level", "text"),
    [
        (
            MoveDone("law", "disk", "host", "ticket", "done", 500_000_000, 0.25),
            logging.INFO,
            "move expert=law from=disk to=host reason=ticket outcome=done seconds=0.250 bytes=500000000 "
            "GB/s=2.000",
        ),
        (
            MoveDone("law", "device", "host", "idle", "done", 1000, 0.25, age_s=60.04),
            logging.INFO,
            "move expert=law from=device to=host reason=idle outcome=done seconds=0.250 bytes=1000 "
            "age_s=60.0",
        ),
        (
            MoveDone("law", "host", "device", "preload", "failed", 0, 0.0, "tensor x holds NaN"),
            logging.WARNING,
            "move expert=law from=host to=device reason=preload outcome=failed seconds=0.000 bytes=0: "
            "tensor x holds NaN",
        ),
        (
            MoveDone("law", "disk", "host", "prefetch", "cancelled", 0, 1.5, "aborted"),
            logging.INFO,
            "move expert=law from=disk to=host reason=prefetch outcome=cancelled seconds=1.500 bytes=0: "
            "aborted",
        ),
        (
            Displaced("law", "eviction", 3.0),
            logging.INFO,
            "displaced expert=law reason=eviction age_s=3.0",
        ),
        (
            EngineChanged("small", "starting", 2),
            logging.INFO,
            "engine family=small state=starting starts=2",
        ),
        (
            EngineChanged("small", "ready", 2, 16.4),
            logging.INFO,
            "engine family=small state=ready starts=2 seconds=16.400",
        ),
        (
            EngineChanged("small", "dead", 2, 0.0, "killed"),
            logging.ERROR,
            "engine family=small state=dead starts=2: killed",
        ),
    ],
)
def test_a_line_says_what_happened_and_what_it_cost(observation: Observation, level: int, text: str) -> None:
    assert line_of(observation) == Line(level, text)


@pytest.mark.parametrize(
    "observation",
    [LeaseGranted("law", "host", 0.1, 0.1), LeaseEnded("law", 1.0), TicketEnded("law", "cancelled", 0.1)],
)
def test_requests_have_their_line_elsewhere(observation: Observation) -> None:
    assert line_of(observation) is None
