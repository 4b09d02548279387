"""Bounds for all keys are shared: whatever some keys hold, a key that holds nothing finds room."""

from server.access.shares import Holdings

KEYS = [f"key {number}" for number in range(6)]


def filled(holdings: Holdings, owner: str, amount: int = 1) -> int:
    while holdings.take(owner, amount):
        pass
    return holdings.of(owner)


def test_each_key_leaves_a_third_of_what_it_found() -> None:
    holdings = Holdings(3**7)
    assert [filled(holdings, owner) for owner in KEYS] == [2 * 3**part for part in (6, 5, 4, 3, 2, 1)]
    assert holdings.take("key of a newcomer", 1)


def test_what_one_gives_back_is_for_all() -> None:
    holdings = Holdings(90)
    assert (filled(holdings, "key a"), filled(holdings, "key b")) == (60, 20)
    holdings.add("key a", -60)
    assert filled(holdings, "key b") == 60
    assert holdings.of("key a") == 0


def test_much_at_once_is_taken_or_refused_like_little_again_and_again() -> None:
    holdings = Holdings(90)
    assert holdings.take("key a", 30)
    assert not holdings.take("key a", 40)  # 70, and 20 would be left
    assert holdings.take("key a", 30)
    assert holdings.of("key a") == 60


def test_where_nobody_needs_a_key_there_are_no_shares() -> None:
    holdings = Holdings(100)
    assert filled(holdings, "sent 00ff") == 100
    assert not holdings.take("sent 11ee", 1)


def test_the_only_place_is_whoever_comes_first_has() -> None:
    holdings = Holdings(1)
    assert holdings.take("key a", 1)
    assert not holdings.take("key b", 1)
    holdings.add("key a", -1)
    assert holdings.take("key b", 1)
    assert repr(holdings) == "<Holdings 1 of 1 by 1>"
