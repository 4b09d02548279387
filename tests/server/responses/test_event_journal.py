"""The events of a response in the background, for those who follow, leave and come back."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.errors import EventsGone
from server.responses.kept.event_journal import Following, Journals


def event(number: int, size: int = 0) -> bytes:
    return b"data: %d%b\n\n" % (number, b"x" * size)


async def heard(following: Following) -> bytes:
    return b"".join([events async for events in following.events()])


async def test_who_follows_hears_everything_once_and_the_end() -> None:
    journals = Journals(10_000)
    journal = journals.open("a")
    journal.write(event(0) + event(1))
    early, late = (asyncio.create_task(heard(Following(journal, number))) for number in (0, 1))
    await asyncio.sleep(0)
    journal.write(event(2))
    await asyncio.sleep(0)
    journal.write(event(3))
    journals.end("a")
    assert await early == event(0) + event(1) + event(2) + event(3)
    assert await late == event(1) + event(2) + event(3)
    assert await heard(Following(journals.find("a"), 2)) == event(2) + event(3)
    assert await heard(Following(journals.find("a"), 9)) == b""
    journals.close()


async def test_a_comment_reaches_who_follows_and_is_not_kept() -> None:
    journals = Journals(10_000)
    journal = journals.open("a")
    journal.write(event(0))
    following: AsyncIterator[bytes] = Following(journal, 0).events()
    assert await anext(following) == event(0)
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    journal.write(b": loading law ...\n\n")
    assert await waiting == b": loading law ...\n\n"
    assert journal.next == 1
    journals.drop("a")
    assert [events async for events in following if events] == []


async def test_many_events_come_in_pieces() -> None:
    journals = Journals(1_000_000)
    journal = journals.open("a")
    journal.write(b"".join(event(number) for number in range(2500)))
    journals.end("a")
    pieces = [events async for events in Following(journal, 0).events()]
    assert len(pieces) == 3
    assert b"".join(pieces) == b"".join(event(number) for number in range(2500))
    journals.close()


async def test_who_ended_first_makes_room_and_then_the_largest_that_runs() -> None:
    journals = Journals(2_000)
    for name in ("first", "second"):
        journals.open(name).write(event(0, 700))
        journals.end(name)
    small, large = journals.open("small"), journals.open("large")
    small.write(event(0, 100))
    large.write(event(0, 700))
    with pytest.raises(EventsGone):
        journals.find("first")
    assert journals.find("second").ended
    for number in range(1, 6):
        large.write(event(number, 700))
        assert journals.bytes <= 2_000
    with pytest.raises(EventsGone):
        Following(large, 0)
    assert await anext(Following(small, 0).events()) == event(0, 100)
    assert event(5, 700) in await anext(Following(large, 5).events())
    journals.close()
    assert journals.bytes == 0


async def test_one_event_larger_than_all_may_be_is_not_kept() -> None:
    journals = Journals(1_000)
    journal = journals.open("a")
    following = Following(journal, 0)
    journal.write(event(0, 5_000))
    assert (journals.bytes, journal.next) == (0, 1)
    with pytest.raises(EventsGone):
        await heard(following)
    journals.close()
