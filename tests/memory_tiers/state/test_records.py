"""Single records: what an engine learns of its loads, and timers."""

import tracemalloc

import pytest

from memory_tiers.members import Family
from memory_tiers.state.records.expert_record import EngineRecord
from memory_tiers.state.records.timers import Timers


def an_engine() -> EngineRecord:
    return EngineRecord(Family("f", None), "f", None, held=0, holds=True)


def test_what_an_engine_takes_to_wake_is_smoothed_over_the_loads_that_woke_it() -> None:
    engine = an_engine()
    engine.woke(100.0, 10)
    assert engine.wake_s == 0.0, "what a load takes without waking is not known"
    engine.took(1.0, 10)
    engine.woke(21.0, 10)
    assert engine.wake_s == pytest.approx(20.0)
    engine.woke(11.0, 10)
    assert engine.wake_s == pytest.approx(0.7 * 20.0 + 0.3 * 10.0)


def test_an_engine_that_woke_within_the_time_of_a_load_took_no_time_to_wake() -> None:
    engine = an_engine()
    engine.took(1.0, 10)
    engine.woke(0.5, 10)
    assert engine.wake_s == 0.0


def test_a_timer_that_is_set_again_is_due_at_its_last_time_and_once() -> None:
    timers = Timers()
    for at in (5.0, 3.0, 7.0, 7.0):
        timers.set("a", at)
    timers.set("b", 6.0)
    assert timers.next == 6.0
    assert timers.due(5.0) == []
    assert timers.due(7.0) == ["b", "a"]
    assert (timers.due(100.0), len(timers)) == ([], 0)


def test_a_timer_that_is_set_at_every_request_takes_no_more_memory_with_each() -> None:
    timers = Timers()
    timers.set("b", 1.0)
    tracemalloc.start()
    try:
        for request in range(20_000):
            timers.set("a", 86_400.0 + request)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 100_000
    assert timers.times == {"a": 86_400.0 + 19_999, "b": 1.0}
    assert timers.due(1e9) == ["b", "a"]
