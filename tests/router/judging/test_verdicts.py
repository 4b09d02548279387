import pytest

from router.judging.verdicts import JudgedPair, Pair, Reading, question, verdict_of
from router.judging.win_rates import report, scores

AB, AC, BC = Pair("a", "b"), Pair("a", "c"), Pair("b", "c")


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("A", "A"),
        ("It is shorter.\nB", "B"),
        ("Both are right.\n\n**TIE**\n", "TIE"),
        ("because\n[[A]]\n```", "A"),
        ("Final verdict: B.", "B"),
        ("The winner is A", "A"),
        ("__tie__", "TIE"),
        ("", "unreadable"),
        ("A\nB is close, too.", "unreadable"),
        ("A is better", "unreadable"),
        ("A or B", "unreadable"),
        ("I cannot tell", "unreadable"),
        ("B, because A is long", "unreadable"),
        ("AB", "unreadable"),
    ],
)
def test_a_verdict_is_the_last_line_and_nothing_is_guessed(text: str, reading: Reading) -> None:
    assert (verdict_of(text) or "unreadable") == reading


@pytest.mark.parametrize(
    ("readings", "points", "swayed"),
    [
        (("A", "B"), 1.0, False),
        (("B", "A"), 0.0, False),
        (("TIE", "TIE"), 0.5, False),
        (("A", "A"), 0.5, True),
        (("B", "B"), 0.5, True),
        (("A", "TIE"), 0.5, True),
        (("TIE", "A"), 0.5, True),
        (("A", "unreadable"), None, False),
        (("refused", "B"), None, False),
        (None, None, False),
    ],
)
def test_both_orders_must_agree_or_it_is_a_tie(
    readings: tuple[Reading, Reading] | None, points: float | None, swayed: bool
) -> None:
    judged = JudgedPair("x", AB, readings)
    assert (judged.points(), judged.swayed) == (points, swayed)


def test_the_judge_sees_the_request_and_both_answers_in_the_order_given() -> None:
    ask = question("judge", "the request", "one", "two", 9)
    places = [ask.prompt.index(words) for words in ("the request", "answer A]\none", "answer B]\ntwo")]
    assert places == sorted(places)
    assert ask.system.endswith("or TIE.")
    assert (ask.model, ask.max_tokens) == ("judge", 9)


def test_a_score_is_the_mean_over_an_experts_pairs() -> None:
    pairs = [
        JudgedPair("x", AB, ("A", "B")),
        JudgedPair("x", AC, ("TIE", "TIE")),
        JudgedPair("x", BC, ("B", "A")),
    ]
    assert scores(pairs) == {"x": {"a": 0.75, "b": 0.0, "c": 0.75}}


def test_an_expert_with_a_pair_that_could_not_be_judged_has_no_score_on_that_prompt() -> None:
    pairs = [
        JudgedPair("x", AB, ("A", "unreadable")),
        JudgedPair("x", AC, ("A", "B")),
        JudgedPair("x", BC, ("A", "B")),
        JudgedPair("y", AB, None),
    ]
    assert scores(pairs) == {"x": {"c": 0.0}}


def test_an_expert_that_gave_no_answer_is_out_and_the_others_are_not() -> None:
    pairs = [JudgedPair("x", AB, None), JudgedPair("x", AC, ("A", "B")), JudgedPair("x", BC, None)]
    assert scores(pairs) == {"x": {"a": 1.0, "c": 0.0}}


def test_the_reference_has_half_the_points_where_anything_was_judged() -> None:
    cb = Pair("c", "b")
    pairs = [
        JudgedPair("x", AB, ("A", "B")),
        JudgedPair("x", cb, ("B", "A")),
        JudgedPair("y", AB, None),
        JudgedPair("y", cb, ("unreadable", "A")),
        JudgedPair("z", AB, ("refused", "refused")),
        JudgedPair("z", cb, ("A", "B")),
    ]
    assert scores(pairs, "b") == {"x": {"a": 1.0, "c": 0.0, "b": 0.5}, "z": {"c": 1.0, "b": 0.5}}


def test_the_report_counts_every_pair_and_call_once() -> None:
    pairs = [
        JudgedPair("1", AB, ("A", "B")),
        JudgedPair("2", AB, ("A", "A")),
        JudgedPair("3", AB, ("B", "TIE")),
        JudgedPair("4", AB, ("TIE", "TIE")),
        JudgedPair("5", AB, ("TIE", "TIE"), same=True),
        JudgedPair("6", AB, ("unreadable", "refused")),
        JudgedPair("7", AB, None),
    ]
    made = report(pairs, scores(pairs))
    assert (made.pairs, made.judged, made.same, made.ties) == (7, 4, 1, 3)
    assert (made.swayed, made.favoured_first) == (2, 1)
    assert (made.unreadable, made.refused, made.unanswered) == (1, 1, 1)
    assert list(made.experts) == ["a", "b"]
    assert made.experts["a"].rate.value == pytest.approx(0.6)
    assert made.experts["a"].prompts == 5
    assert made.experts["a"].rate.low <= 0.6 <= made.experts["a"].rate.high
