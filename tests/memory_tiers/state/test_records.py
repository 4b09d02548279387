"""Single records: what an engine learns of its loads, turnovers and uses, rankings and timers."""

import tracemalloc

import pytest

from memory_tiers.members import Family, Member
from memory_tiers.state.records.expert_record import EngineRecord
from memory_tiers.state.records.policy import RateTimesCost
from memory_tiers.state.records.ranking import Ranking
from memory_tiers.state.records.recency_weighted_use import HALF_LIFE
from memory_tiers.state.records.records import Records
from memory_tiers.state.records.timers import Timers
from memory_tiers.tiers import TiersConfig


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


def test_what_a_byte_takes_to_an_engine_is_smoothed_over_its_loads() -> None:
    engine = an_engine()
    for seconds, size in ((0.0, 10), (1.0, 0)):
        engine.took(seconds, size)
        assert engine.seconds_per_byte is None, "that says nothing"
    engine.took(2.0, 1)
    assert engine.seconds_per_byte == pytest.approx(2.0)
    engine.took(10.0, 10)
    assert engine.seconds_per_byte == pytest.approx(0.7 * 2.0 + 0.3 * 1.0)


def some_records(*names: str) -> Records:
    config = TiersConfig.model_validate({"device": 100, "host": 100})
    return Records.of(config, [Member(name, "f", 10) for name in names], [Family("f", None)], RateTimesCost())


def test_each_copy_that_comes_replaces_its_share_of_a_tier() -> None:
    records = some_records("a", "b")
    for expert in records.experts.values():
        expert.engine.residents[expert.name] = expert
        records.loaded(expert)
        records.host.arrive(expert.host)
        records.staged(expert, 10)
    assert records.device_turnovers == 1 + 1 / 2
    assert records.host_turnovers == 1 + 1 / 2


def test_a_use_is_counted_by_the_turnovers_of_both_tiers_and_with_its_probability() -> None:
    records = some_records("a", "b")
    records.device_turnovers, records.host_turnovers = HALF_LIFE, 2 * HALF_LIFE
    a, b = records.experts.values()
    records.count_use(a)
    records.count_use(b, 0.25)
    assert (a.device_use, a.host_use) == (1.0, 2.0)
    assert (b.device_use, b.host_use) == (-1.0, 0.0)


def test_a_decision_is_asked_for_at_the_earliest_time_to_come() -> None:
    records = some_records("a")
    records.now = 5.0
    for at in (4.0, 5.0):
        records.wake(at)
        assert records.deadline is None, "it is being decided"
    for at in (8.0, 7.0, 9.0):
        records.wake(at)
    assert records.deadline == 7.0


def test_who_leaves_first_is_found_among_those_that_fit_and_equals_leave_as_they_came() -> None:
    records = some_records(*"abc")
    ranking = Ranking(RateTimesCost(), "device")
    a, b, c = records.experts.values()
    a.device_use, b.device_use, c.device_use = 1.0, 0.0, 0.0
    a.host_use, b.host_use, c.host_use = 0.0, 1.0, 1.0
    for expert in (a, b, c):
        ranking.put(expert)
    assert ranking.first(lambda expert: True) is b
    assert ranking.first(lambda expert: expert is not b) is c
    assert ranking.first(lambda expert: expert is a) is a
    assert ranking.first(lambda expert: False) is None
    ranking.keep(b, False)
    assert ranking.first(lambda expert: True) is c
    assert b not in ranking


def test_a_ranking_follows_very_many_changes() -> None:
    records = some_records("a", "b")
    ranking = Ranking(RateTimesCost(), "device")
    a, b = records.experts.values()
    a.device_use = 500.0
    ranking.put(a)
    for use in range(1000):
        b.device_use = float(use)
        ranking.put(b)
        assert ranking.first(lambda expert: True) is (b if use < 500 else a)


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
