"""A key's limits over several nodes: the sum of what they say is what one would have counted."""

from hypothesis import given
from hypothesis import strategies as st

from server.access.figures import Figures, KeyTotal, summed
from server.access.rate_limits import Instant, RateLimits, Refusal, Reservation
from server.config.api_keys import UNLIMITED, Limits

DAY = 20_000
LIMITS = Limits(requests_per_minute=20, tokens_per_minute=500, concurrent_requests=8, tokens_per_day=3_000)


def instant(seconds: float) -> Instant:
    return Instant(1000.0 + seconds, DAY * 86_400 + 1000.0 + seconds)


steps = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 120), st.floats(0, 9), st.booleans()), max_size=60
)


@given(steps)
def test_the_figures_of_nodes_add_up_to_those_of_one(
    trace: list[tuple[int, int, float, bool]],
) -> None:
    """Each step: the node, tokens, seconds since the step before, and whether it ends at once."""
    at = instant(0)
    one, nodes = RateLimits(at), [RateLimits(at) for _ in range(3)]
    for node, tokens, seconds, ends in trace:
        at = Instant(at.steady + seconds, at.utc + seconds)
        charged = [each.admit(UNLIMITED, at, tokens) for each in (one, nodes[node])]
        if ends:
            for each, reservation in zip((one, nodes[node]), charged, strict=True):
                assert isinstance(reservation, Reservation)
                each.settle(reservation, at, tokens // 2)
    whole = summed([Figures.of(each, at) for each in nodes], at)
    assert (whole.open, whole.day_tokens) == (one.open, one.day_tokens)
    assert whole.requests.ages(at.steady) == one.requests.ages(at.steady)
    assert whole.tokens.ages(at.steady) == one.tokens.ages(at.steady)
    for tokens in (0, 50, 400):
        assert whole.admit(LIMITS, at, tokens) == one.admit(LIMITS, at, tokens)


@given(steps, st.lists(st.integers(0, 59), max_size=4))
def test_a_home_that_is_lost_again_and_again_lets_no_more_in_than_one_that_stays(
    trace: list[tuple[int, int, float, bool]], losses: list[int]
) -> None:
    """The home counts for all, and what each node has let in is enough for the next one."""
    at = instant(0)
    nodes = {str(number): RateLimits(at) for number in range(3)}

    def home() -> KeyTotal:
        return KeyTotal({name: Figures.of(each, at) for name, each in nodes.items()}, (), at)

    one, total = RateLimits(at), home()
    for number, (node, tokens, seconds, ends) in enumerate(trace):
        at = Instant(at.steady + seconds, at.utc + seconds)
        if number in losses:
            total = home()
        expected = one.admit(LIMITS, at, tokens)
        found = total.admit(str(node), LIMITS, at, tokens, offline=False)
        assert found == expected
        if isinstance(expected, Refusal):
            continue
        mine = nodes[str(node)].admit(UNLIMITED, at, tokens)
        assert isinstance(mine, Reservation)
        assert isinstance(found, Reservation)
        if ends:
            one.settle(expected, at, tokens // 2)
            nodes[str(node)].settle(mine, at, tokens // 2)
            total.settle(str(node), found, at, tokens // 2)


def test_what_a_lost_node_had_under_way_is_free_again_and_what_it_used_counts() -> None:
    at = instant(0)
    total = KeyTotal({"a": Figures(), "b": Figures()}, (), at)
    taken = [total.admit("b", LIMITS, at, 10, offline=False) for _ in range(8)]
    assert isinstance(total.admit("a", LIMITS, at, 10, offline=False), Refusal)
    total.lost("b")
    assert not isinstance(total.admit("a", LIMITS, at, 10, offline=False), Refusal)
    late = taken[0]
    assert isinstance(late, Reservation)
    total.settle("b", late, at, 0)
    assert total.remaining(LIMITS, at).of["requests"].remaining == 20 - 9


def test_what_other_nodes_have_under_way_and_what_all_used_counts_on_when_one_is_lost() -> None:
    at = instant(0)
    total = KeyTotal({"a": Figures(), "b": Figures()}, (), at)
    for member in "aaabbbbb":
        assert isinstance(total.admit(member, LIMITS, at, 10, offline=False), Reservation)
    total.lost("b")
    assert total.remaining(Limits(tokens_per_day=100), at).of["tokens"].remaining == 20
    taken = [isinstance(total.admit("a", LIMITS, at, 0, offline=False), Reservation) for _ in range(6)]
    assert taken == [True] * 5 + [False]


def test_what_others_have_told_leaves_the_minute_second_by_second() -> None:
    told = [Figures(requests={10: 1, 50: 2}, tokens={60: 3}), Figures(requests={30: 4}, tokens={61: 100})]
    whole = summed(told, instant(0))
    requests = [whole.requests.used(instant(seconds).steady) for seconds in (0, 10, 11, 30, 31, 50, 51)]
    assert requests == [7, 7, 5, 5, 1, 1, 0]
    tokens = summed(told, instant(0)).tokens
    assert [tokens.used(instant(seconds).steady) for seconds in (0, 1)] == [3, 0]


def test_figures_of_a_node_that_is_gone_grow_old() -> None:
    at = instant(0)
    counted = RateLimits(at)
    counted.admit(UNLIMITED, at, 30)
    last = Figures.of(counted, at)
    soon, later = last.aged(30.5), last.aged(90)
    assert (soon.open, soon.day_tokens) == (0, 30)
    assert summed([soon], instant(30)).requests.used(instant(30).steady) == 1
    assert summed([later], instant(90)).requests.used(instant(90).steady) == 0
    assert later.minute.day_tokens == 0
