"""What an engine's first vector says of an embedding model."""

import orjson
import pytest

from experts.errors import CanaryFailed
from experts.vllm.embedding import check


def answer(*vector: float) -> bytes:
    return orjson.dumps({"data": [{"index": 0, "embedding": vector}]})


def test_a_vector_of_numbers_will_do() -> None:
    check(200, answer(0.0, 0.6, -0.8))


@pytest.mark.parametrize("vector", [(0.0, 0.0), (), (0.6, float("nan")), (float("inf"), 0.1)])
def test_what_is_no_vector_is_refused(vector: tuple[float, ...]) -> None:
    with pytest.raises(CanaryFailed, match="its first vector is none"):
        check(200, answer(*vector))


def test_a_refusal_is_passed_on() -> None:
    with pytest.raises(CanaryFailed, match="a first vector fails: the engine answers 404: no such path"):
        check(404, b"no such path")
