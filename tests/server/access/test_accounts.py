"""The accounts of a running gateway: nothing waits, nothing noted is lost, and keys are read again."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.access.account_store import AccountStore
from server.access.accounts import Accounts, accounting
from server.access.rate_limits import DAY_S, Instant
from server.access.usage import Place, Spent, UsageQuery
from server.config.api_keys import Key, digest_of, new_secret
from server.storage.retention_clock import SETTLED_S, RetentionClock

ONE = Spent(requests=1, prompt_tokens=3, completion_tokens=2)
TODAY = int(time.time() // 86_400)
HERE = Place(TODAY, "a", "law")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite"


@pytest.fixture
def accounts(file: Path) -> Iterator[Accounts]:
    made = Accounts(AccountStore.open(file, create=True), keep_days=2, period_s=0.01)
    yield made
    made.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)  # what is awaited happens in another thread or process, and tells nobody


def kept(file: Path) -> dict[Place, Spent]:
    store = AccountStore.open(file, create=True)
    try:
        return dict(store.usage(UsageQuery()))
    finally:
        store.close()


def opens(accounts: Accounts, secret: str) -> bool:
    return accounts.keys.find(digest_of(secret.encode())) is not None


def test_keys_made_rotated_and_revoked_elsewhere_are_heeded(accounts: Accounts, file: Path) -> None:
    elsewhere = AccountStore.open(file, create=False)
    first, second = new_secret(), new_secret()
    elsewhere.create(Key("a"), first, time.time())
    until(lambda: opens(accounts, first))
    elsewhere.rotate("a", second, time.time(), grace_s=0.0)
    until(lambda: opens(accounts, second) and not opens(accounts, first))
    elsewhere.revoke("a", time.time())
    until(lambda: not opens(accounts, second))
    assert accounts.keys.ever
    elsewhere.close()


def test_a_grace_time_ends_without_anybody_changing_the_file(file: Path) -> None:
    store = AccountStore.open(file, create=True)
    old, new = new_secret(), new_secret()
    store.create(Key("a"), old, at=1000.0)
    store.rotate("a", new, at=1000.0, grace_s=60.0)
    now = [1001.0]
    accounts = Accounts(store, keep_days=2, period_s=0.01, clock=lambda: Instant(now[0], now[0]))
    try:
        assert opens(accounts, old)
        now[0] = 1060.0
        until(lambda: not opens(accounts, old))
        assert opens(accounts, new)
    finally:
        accounts.close()


async def test_what_was_noted_is_in_the_answer_and_after_closing_in_the_file(file: Path) -> None:
    async with accounting(file, keep_days=2) as accounts:
        for _ in range(3):
            accounts.note(HERE, ONE)
        (row,) = await accounts.usage(UsageQuery())
        assert (row.requests, row.prompt_tokens, row.completion_tokens) == (3, 9, 6)
        accounts.note(HERE, ONE)
    assert kept(file) == {HERE: Spent(4, 0, 12, 8)}


def test_many_threads_note_and_nothing_is_lost(accounts: Accounts, file: Path) -> None:
    def note() -> None:
        for number in range(500):
            accounts.note(Place(TODAY, f"k{number % 7}", "law"), ONE)

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: sum(spent.requests for spent in kept(file).values()) == 2000)


def test_two_gateways_on_one_file_add_up(accounts: Accounts, file: Path) -> None:
    other = Accounts(AccountStore.open(file, create=True), keep_days=2, period_s=0.01)
    for _ in range(20):
        accounts.note(HERE, ONE)
        other.note(HERE, ONE)
    other.close()
    until(lambda: kept(file)[HERE].requests == 40)


def test_a_restart_knows_what_was_used_today(accounts: Accounts, file: Path) -> None:
    accounts.note(HERE, ONE)
    accounts.note(Place(TODAY, "a", "math"), ONE)
    until(lambda: len(kept(file)) == 2)
    later = Accounts(AccountStore.open(file, create=True), keep_days=2)
    later.close()
    assert (later.started.day, later.used) == (TODAY, {"a": 10})


class Clocks:
    """A machine's, after ``passed_s``; ``ahead_s``: by how much the wall clock is wrong."""

    def __init__(self) -> None:
        self.passed_s = self.ahead_s = 0.0
        self.turns = 0

    def wall(self) -> float:
        self.turns += 1  # of the thread: it asks once each
        return TODAY * DAY_S + self.passed_s + self.ahead_s

    def steady(self) -> float:
        return self.passed_s


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def timed(file: Path, clocks: Clocks) -> Iterator[Accounts]:
    """With usage of today and of the two days before, of which two days are kept."""
    store = AccountStore.open(file, create=True)
    store.add({Place(TODAY - 2, "a", "law"): ONE, Place(TODAY - 1, "a", "law"): ONE, HERE: ONE})
    retention = RetentionClock(clocks.wall, clocks.steady)
    made = Accounts(store, keep_days=2, period_s=0.001, retention=retention)
    yield made
    made.close()


def three_turns(clocks: Clocks) -> None:
    begun = clocks.turns
    until(lambda: clocks.turns >= begun + 3)


def test_old_usage_goes_once_the_clock_has_gone_well_for_an_hour(
    timed: Accounts, file: Path, clocks: Clocks
) -> None:
    three_turns(clocks)
    assert len(kept(file)) == 3
    clocks.passed_s = SETTLED_S
    until(lambda: set(kept(file)) == {Place(TODAY - 1, "a", "law"), HERE})


@pytest.mark.parametrize("lived_s", [0.0, SETTLED_S])
def test_a_clock_that_jumps_ahead_deletes_no_usage(
    timed: Accounts, file: Path, clocks: Clocks, lived_s: float
) -> None:
    clocks.passed_s = lived_s
    three_turns(clocks)
    before = kept(file)
    clocks.ahead_s = 1000 * DAY_S
    three_turns(clocks)
    assert kept(file) == before
    clocks.ahead_s = 0.0
    three_turns(clocks)
    assert kept(file) == before


def test_while_the_file_cannot_be_written_usage_waits_and_keys_stay(
    accounts: Accounts, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = new_secret()
    elsewhere = AccountStore.open(file, create=False)
    elsewhere.create(Key("a"), secret, time.time())
    elsewhere.close()
    until(lambda: opens(accounts, secret))
    rename(file, "usage", "gone")
    for _ in range(5):
        accounts.note(HERE, ONE)
    until(lambda: "usage waits in memory" in caplog.text)
    assert opens(accounts, secret)
    accounts.note(HERE, ONE)
    caplog.set_level(logging.INFO)
    rename(file, "gone", "usage")
    until(lambda: "works again" in caplog.text)
    assert kept(file)[HERE].requests == 6
    assert caplog.text.count("usage waits in memory") == 1


def rename(file: Path, old: str, new: str) -> None:
    connection = sqlite3.connect(file, timeout=30)
    connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
    connection.close()


_NOTING = """
import sys, time
from pathlib import Path
from server.access.account_store import AccountStore
from server.access.accounts import Accounts
from server.access.usage import Place, Spent

accounts = Accounts(AccountStore.open(Path(sys.argv[1]), create=True), keep_days=2)
for number in range(100):
    accounts.note(Place(int(time.time() // 86400), f"k{number % 3}", "law"), Spent(requests=1))
print("noted", flush=True)
time.sleep(600)
"""


def test_a_process_that_is_killed_keeps_what_was_written_exactly(file: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _NOTING, str(file)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "noted\n"
        until(lambda: sum(spent.requests for spent in kept(file).values()) == 100)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    again = Accounts(AccountStore.open(file, create=False), keep_days=2)
    again.close()
    assert sum(spent.requests for spent in kept(file).values()) == 100
