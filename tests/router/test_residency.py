"""An expert on the device in the place of the map's: within the margin, the budget and who can take it."""

import pytest

from router.composition import Composition
from router.residency import resident_instead
from tests.router.training.test_training import solved

COOKING = [{"role": "user", "content": "whisk butter and flour, then roast"}]
SIZES = {"small": 1.0, "other": 7.0, "large": 7.0, "huge": 70.0}
SCORES = {"small": 0.50, "other": 0.58, "large": 0.60, "huge": 0.61}


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
    assert resident_instead(SCORES, SIZES, "large", resident, margin) == instead


def test_a_composition_minds_where_experts_are_only_with_a_margin() -> None:
    by_default = Composition(solved()).choose(COOKING, resident=["chat"])
    assert (by_default.decision.expert, by_default.by) == ("chef", "map")
    near = Composition(solved(), residency_margin=100)
    assert near.choose(COOKING, resident=["chef", "chat"]).by == "map"
    chosen = near.choose(COOKING, resident=["chat"])
    assert (chosen.decision.expert, chosen.by) == ("chat", "residency")
    ruled_out = near.choose(COOKING, resident=["chat"], eligible=["chef", "skipper"])
    assert (ruled_out.decision.expert, ruled_out.by) == ("chef", "map")
