import pytest

from memory_tiers.move_costs import MoveCosts


def test_nothing_is_promised_before_a_measurement() -> None:
    assert MoveCosts().seconds(100, "disk") is None
    assert MoveCosts().seconds(100, "host") is None


def test_the_way_from_disk_is_the_sum_of_its_moves() -> None:
    costs = MoveCosts()
    costs.note("disk", "host", 100, 2.0)
    costs.note("host", "device", 100, 1.0)
    assert costs.seconds(200, "disk") == pytest.approx(6.0)
    assert costs.seconds(200, "host") == pytest.approx(2.0)


def test_without_a_host_tier_the_direct_way_counts() -> None:
    costs = MoveCosts()
    costs.note("disk", "device", 100, 3.0)
    assert costs.seconds(100, "disk") == pytest.approx(3.0)


def test_later_measurements_weigh_in_and_empty_moves_do_not() -> None:
    costs = MoveCosts()
    costs.note("host", "device", 100, 1.0)
    costs.note("host", "device", 100, 2.0)
    costs.note("host", "device", 0, 9.0)
    assert costs.seconds(100, "host") == pytest.approx(1.3)


def test_what_a_load_that_wakes_an_engine_takes_longer_is_the_wakes_and_not_the_loads() -> None:
    costs = MoveCosts()
    costs.note_wake("f", "host", 100, 5.0)
    assert costs.wake("f") == 0.0, "what of it is the load is not known yet"
    costs.note("host", "device", 100, 1.0)
    costs.note_wake("f", "host", 200, 5.0)
    assert costs.wake("f") == pytest.approx(3.0)
    costs.note_wake("f", "host", 100, 5.0)
    assert costs.wake("f") == pytest.approx(3.3)
    costs.note_wake("f", "host", 100, 0.5)
    assert costs.wake("f") == pytest.approx(2.31)
    assert costs.seconds(100, "host") == pytest.approx(1.0)
    assert costs.wake("g") == 0.0
