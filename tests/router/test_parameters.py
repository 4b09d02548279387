import pytest

from router.parameters import billions


@pytest.mark.parametrize(
    ("text", "number"), [("31B", 31.0), ("7.62B", 7.62), ("135M", 0.135), ("0.5b", 0.5), ("72.7B", 72.7)]
)
def test_a_number_of_parameters_is_read(text: str, number: float) -> None:
    assert billions(text) == pytest.approx(number)


@pytest.mark.parametrize(
    "text", ["", "31", "B", "-1B", "0B", "0.0M", "1e3B", "31 B", "31B ", "31GB", "inf", 31, None]
)
def test_what_is_none_says_how_to_write_one(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a number of parameters such as 31B, 7\.62B or 135M"):
        billions(text)
