import random

import pytest

from router.mapping.traffic_shares import FEWEST, WINDOW, Drift, label_shares, with_shares
from tests.router.mapping.hidden_groups import finer
from tests.router.mapping.score_tables import table

EXPECTED = {"math": 0.5, "law": 0.3, "general": 0.2}


def drawn(shares: dict[str, float], count: int) -> list[str]:
    return random.Random(1).choices(list(shares), list(shares.values()), k=count)


def test_traffic_as_expected_hardly_drifts_and_few_decisions_say_nothing() -> None:
    drift = Drift(EXPECTED)
    for category in drawn(EXPECTED, FEWEST - 1):
        drift.add(category)
    assert drift.value is None
    for category in drawn(EXPECTED, WINDOW):
        drift.add(category)
    assert drift.value is not None
    assert drift.value < 0.05


def test_a_drift_is_the_part_that_moved_and_older_decisions_are_forgotten() -> None:
    drift = Drift(EXPECTED)
    for category in [*drawn(EXPECTED, WINDOW), *["law"] * WINDOW]:
        drift.add(category)
    assert drift.value == pytest.approx(0.7)
    for category in drawn(EXPECTED, WINDOW):
        drift.add(category)
    assert drift.value == pytest.approx(0, abs=0.05)


def test_a_table_takes_the_shares_of_live_rows_and_keeps_some_of_the_old() -> None:
    before = table(("math", "law", "general"))
    made = with_shares(before, ["law"] * 300 + ["unknown"] * 50, prior=100)
    shares = made.share_of()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["law"] == pytest.approx((300 + 100 * before.share_of()["law"]) / 400)
    assert shares["math"] == pytest.approx(before.share_of()["math"] / 4)


def test_shares_of_labels_add_up_those_of_their_finer_categories() -> None:
    artifact = finer().artifact
    assert artifact.scores is not None
    shares = label_shares(artifact.scores, artifact.finer)
    assert shares.keys() == {"chores", "general"}
    assert shares["chores"] == pytest.approx(2 / 3, abs=0.1)
