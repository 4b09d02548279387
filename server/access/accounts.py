"""Accounts of a running gateway: the keys of its file, and their usage. A thread reads and writes the file.

No request waits for the file. Ten times a second the thread writes what was used since, and reads the keys
again when another process has changed the file. So a key that is made or revoked counts within a tenth of a
second, and a process that is killed loses of the usage what ended in its last tenth of a second, and what had
not ended.
"""

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from server.access.account_store import AccountStore, MadeKey
from server.access.rate_limits import DAY_S, Instant, now
from server.access.usage import Place, Spent, UsageQuery, UsageRow
from server.config.api_keys import KeyRing
from server.errors import UsageUnavailable
from server.storage.errors import DatabaseError
from server.storage.retention_clock import RetentionClock

log = logging.getLogger("coe.accounts")

PERIOD_S = 0.1
T = TypeVar("T")


class Accounts:
    """Keeps the keys of the file at hand, and writes usage. ``keys``: those of the file, now. ``close``
    writes what is left."""

    def __init__(
        self,
        store: AccountStore,
        keep_days: int,
        *,
        period_s: float = PERIOD_S,
        clock: Callable[[], Instant] = now,
        retention: RetentionClock | None = None,
    ) -> None:
        """Owns ``store`` from now on. Raises DatabaseError. ``retention``: the clock by which usage is
        deleted."""
        self._store = store
        self._keep_days = keep_days
        self._period_s = period_s
        self._clock = clock
        self._retention = retention or RetentionClock()
        self._pending: dict[Place, Spent] = {}
        self._pending_lock = threading.Lock()
        self._store_lock = threading.Lock()
        self._stopping = threading.Event()
        self._failing = False
        self._trimmed = 0
        self.started = clock()
        """The time of the start, on whose day ``used`` was used."""
        self.used: Mapping[str, int] = store.tokens_of(self.started.day)
        """The tokens that each key had used on that day before the start."""
        self._changes = store.changes()
        self._ring = store.ring(self.started.utc)
        self._writer = threading.Thread(target=self._work, name="accounts", daemon=True)
        self._writer.start()

    def __repr__(self) -> str:
        failing = " failing" if self._failing else ""
        return f"<Accounts in {self._store.file}{failing}, {len(self._pending)} rows to write>"

    @property
    def keys(self) -> KeyRing:
        return self._ring.keys

    def note(self, place: Place, spent: Spent) -> None:
        """Counts usage; returns at once."""
        with self._pending_lock:
            before = self._pending.get(place)
            self._pending[place] = spent if before is None else before.plus(spent)

    async def usage(self, wanted: UsageQuery) -> list[UsageRow]:
        """Returns the rows asked for, with all that was noted. Raises UsageUnavailable."""
        return await self._reading(lambda: self._usage(wanted))

    async def made_keys(self) -> list[MadeKey]:
        """Returns the keys that were made, revoked ones too. Raises UsageUnavailable."""
        return await self._reading(self._made_keys)

    def close(self) -> None:
        self._stopping.set()
        self._writer.join()
        self._store.close()

    async def _reading(self, read: Callable[[], T]) -> T:
        """Reads the file in a thread. Raises UsageUnavailable."""
        try:
            return await asyncio.to_thread(read)
        except DatabaseError as error:
            log.error("usage and keys cannot be read: %s", error)
            raise UsageUnavailable("They cannot be read now; the gateway's log says why.") from error

    def _made_keys(self) -> list[MadeKey]:
        with self._store_lock:
            return self._store.made_keys()

    def _usage(self, wanted: UsageQuery) -> list[UsageRow]:
        with self._store_lock:
            self._write()
            return [UsageRow.of(place, spent) for place, spent in self._store.usage(wanted)]

    def _work(self) -> None:
        """Runs the thread."""
        while not self._stopping.wait(self._period_s):
            self._turn()
        try:
            with self._store_lock:
                self._write()
        except Exception:
            log.exception("the usage of %d rows is lost: %s", len(self._pending), self._pending)

    def _turn(self) -> None:
        try:
            with self._store_lock:
                self._read()  # first: a revoked key waits for nothing
                self._write()
                self._trim()
        except Exception as error:  # nobody would notice the death of a thread
            if not self._failing:
                failure = None if isinstance(error, DatabaseError) else error
                log.error("usage waits in memory until it can be written: %s", error, exc_info=failure)
            self._failing = True
        else:
            if self._failing:
                log.info("%s works again, and all usage is written", self._store.file)
            self._failing = False

    def _write(self) -> None:
        with self._pending_lock:
            taken, self._pending = self._pending, {}
        if not taken:
            return
        try:
            self._store.add(taken)
        except BaseException:
            for place, spent in taken.items():
                self.note(place, spent)
            raise

    def _read(self) -> None:
        changes, now = self._store.changes(), self._clock().utc
        expired = self._ring.next_expiry is not None and self._ring.next_expiry <= now
        if changes != self._changes or expired:
            self._ring = self._store.ring(now)
            self._changes = changes

    def _trim(self) -> None:
        oldest = self._retention.before((self._keep_days - 1) * DAY_S)
        if oldest == -math.inf:
            return
        day = int(oldest // DAY_S)
        if day != self._trimmed:
            self._store.forget_before(day)
            self._trimmed = day


@asynccontextmanager
async def accounting(file: Path, keep_days: int) -> AsyncIterator[Accounts]:
    """Opens the accounts; leaving writes what is left. Raises DatabaseError at the start alone."""
    store = await asyncio.to_thread(AccountStore.open, file, create=True)
    accounts = await asyncio.to_thread(Accounts, store, keep_days)
    try:
        yield accounts
    finally:
        await asyncio.to_thread(accounts.close)
