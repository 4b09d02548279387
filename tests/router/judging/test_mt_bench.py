"""Grades of conversations of several lengths."""

from router.judging.mt_bench import standings
from router.judging.questions import Question


def test_later_turns_are_averaged_over_the_questions_that_have_them() -> None:
    questions = [
        Question("a", "stem", ("1", "2")),
        Question("b", "stem", ("1",)),
        Question("c", "stem", ("1", "2")),
    ]
    grades = {
        ("m", "a", 0): 7.0,
        ("m", "a", 1): 2.0,
        ("m", "b", 0): 7.0,
        ("m", "c", 0): 7.0,
        ("m", "c", 1): 8.0,
    }
    later = standings(questions, ["m"], grades)["m"].later_turns
    assert later is not None
    assert later.value == 5.0
    assert (later.low, later.high) == (2.0, 8.0)
