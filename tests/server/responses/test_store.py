"""What is kept of responses: whose, how long, how much; in memory and in a file."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ByteSize

from server.config.responses import ResponsesConfig
from server.responses.kept.store import DAY_S, ConversationTooLong, KeptResponse, ResponseStore
from server.storage.errors import DatabaseUnreadable
from server.storage.retention_clock import SETTLED_S, RetentionClock


class Clock:
    """``now``: of the steady clock; ``ahead_s``: by how much the wall clock is wrong."""

    def __init__(self) -> None:
        self.now, self.ahead_s = 0.0, 0.0
        self.told = RetentionClock(lambda: self.now + self.ahead_s, lambda: self.now)
        self.now = SETTLED_S


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "file"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> ResponsesConfig:
    return ResponsesConfig(file=tmp_path / "responses.sqlite" if request.param == "file" else None)


def opened(config: ResponsesConfig, clock: Clock, **limits: Any) -> ResponseStore:
    return ResponseStore.open(config.model_copy(update=limits), clock.told)


def said(
    id: str, previous: str | None = None, owner: str = "me", text: str = "hi", status: str = "completed"
) -> KeptResponse:
    response = {"id": id, "status": status, "output": [{"type": "message", "text": f"{text} yourself"}]}
    return KeptResponse(id, owner, previous, [{"type": "message", "text": text}], response)


def ids(store: ResponseStore, *names: str, owner: str = "me") -> list[str]:
    return [name for name in names if store.find(owner, name) is not None]


def test_what_is_kept_is_found_by_its_owner_alone(config: ResponsesConfig, clock: Clock) -> None:
    store = opened(config, clock)
    store.keep(said("a"))
    assert store.find("me", "a") == said("a")
    assert store.find("you", "a") is None
    assert not store.delete("you", "a")
    assert store.delete("me", "a")
    assert store.find("me", "a") is None
    store.close()


def test_a_conversation_is_all_responses_from_the_first_one_on(config: ResponsesConfig, clock: Clock) -> None:
    store = opened(config, clock)
    for id, previous in (("a", None), ("b", "a"), ("x", "a"), ("c", "b")):
        store.keep(said(id, previous, text=id))
    assert [kept.id for kept in store.conversation("me", "c", 10_000)] == ["a", "b", "c"]
    assert store.conversation("you", "c", 10_000) == []
    with pytest.raises(ConversationTooLong):
        store.conversation("me", "c", 100)
    store.delete("me", "a")
    assert store.conversation("me", "c", 10_000) == []
    store.close()


def test_what_nobody_goes_on_from_is_deleted_with_time(config: ResponsesConfig, clock: Clock) -> None:
    store = opened(config, clock, keep_days=1)
    for id, previous in (("a", None), ("b", "a"), ("old", None)):
        store.keep(said(id, previous))
    clock.now += 0.9 * DAY_S
    store.conversation("me", "b", 10_000)
    clock.now += 0.9 * DAY_S
    assert ids(store, "a", "b", "old") == ["a", "b"]
    clock.now += 0.9 * DAY_S
    assert ids(store, "a", "b") == []
    store.close()


def test_a_clock_that_jumps_ahead_deletes_nothing(config: ResponsesConfig, clock: Clock) -> None:
    store = opened(config, clock)
    store.keep(said("a"))
    clock.ahead_s = 1000 * DAY_S
    store.keep(said("b"))
    assert ids(store, "a", "b") == ["a", "b"]
    clock.ahead_s = 0.0
    clock.now += 29 * DAY_S
    assert ids(store, "a", "b") == ["a", "b"]
    clock.now += 2 * DAY_S
    assert ids(store, "a", "b") == []
    store.close()


def test_whoever_has_the_most_makes_room(config: ResponsesConfig, clock: Clock) -> None:
    store = opened(config, clock, max_count=4)
    store.keep(said("mine"))
    for number in range(5):
        clock.now += 1
        store.keep(said(f"yours {number}", owner="you"))
    assert ids(store, "mine") == ["mine"]
    assert ids(store, *(f"yours {n}" for n in range(5)), owner="you") == ["yours 2", "yours 3", "yours 4"]
    store.close()


def test_bytes_are_bounded_too(config: ResponsesConfig, clock: Clock) -> None:
    store = opened(config, clock, max_bytes=ByteSize(5000))
    for id in "abc":
        clock.now += 1
        store.keep(said(id, text="x" * 1000))
    assert ids(store, *"abc") == ["b", "c"]
    store.keep(said("huge", text="x" * 5000))
    assert ids(store, "huge") == []
    store.close()


def test_what_runs_makes_no_room(config: ResponsesConfig, clock: Clock) -> None:
    store = opened(config, clock, max_count=1)
    for id in "ab":
        store.keep(said(id, status="in_progress"))
    assert ids(store, *"ab") == ["a", "b"]
    store.close()


def test_a_file_outlives_a_restart_and_what_ran_has_failed(tmp_path: Path, clock: Clock) -> None:
    config = ResponsesConfig(file=tmp_path / "responses.sqlite")
    store = opened(config, clock)
    store.keep(said("a"))
    store.keep(said("b", status="in_progress"))
    store.close()
    store = opened(config, clock)
    assert store.find("me", "a") == said("a")
    failed = store.find("me", "b")
    assert failed is not None
    assert not failed.running
    assert failed.response["error"]["code"] == "server_error"
    store.close()
    assert (tmp_path / "responses.sqlite").stat().st_mode & 0o077 == 0


def test_another_file_is_refused(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "responses.sqlite"
    file.write_text("something else, and long enough to be looked at")
    with pytest.raises(DatabaseUnreadable):
        opened(ResponsesConfig(file=file), clock)
