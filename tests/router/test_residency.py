"""An expert on the device in the place of the map's: within the margin, the budget and who can take it."""

import numpy as np
import pytest

from router.composition import Composition
from router.mapping.score_table import ScoreTable
from router.residency import resident_instead
from tests.router.training.test_training import solved

COOKING = [{"role": "user", "content": "whisk butter and flour, then roast"}]
TABLE = ScoreTable(
    ("math",),
    ("small", "other", "large", "huge"),
    np.array([1.0, 7.0, 7.0, 70.0]),
    np.ones(1),
    np.array([[0.50, 0.58, 0.60, 0.61]]),
    np.zeros((1, 4)),
    np.ones((1, 4), dtype=np.int64),
)


@pytest.mark.parametrize(
    ("resident", "margin", "instead"),
    [
        (["other"], 2.5, "other"),
        (["other"], 1.0, None),
        (["small", "other"], 12.0, "other"),
        (["small"], 12.0, "small"),
        (["huge"], 12.0, None),
        (["large", "other"], 12.0, None),
        ([], 12.0, None),
    ],
)
def test_the_best_resident_that_is_near_and_no_larger_answers(
    resident: list[str], margin: float, instead: str | None
) -> None:
    assert resident_instead(TABLE, "math", "large", resident, margin) == instead


def test_a_composition_minds_where_experts_are_only_with_a_margin() -> None:
    by_default = Composition(solved()).choose(COOKING, resident=["chat"])
    assert (by_default.decision.expert, by_default.by) == ("chef", "map")
    near = Composition(solved(), residency_margin=100)
    assert near.choose(COOKING, resident=["chef", "chat"]).by == "map"
    chosen = near.choose(COOKING, resident=["chat"])
    assert (chosen.decision.expert, chosen.by) == ("chat", "residency")
    ruled_out = near.choose(COOKING, resident=["chat"], eligible=["chef", "skipper"])
    assert (ruled_out.decision.expert, ruled_out.by) == ("chef", "map")
