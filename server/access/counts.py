"""Counts what all keys use of their limits, in one place for all who admit requests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from server.access.accounts import Accounts
from server.access.rate_limits import Instant, RateLimits, Refusal, Remaining, Reservation, now
from server.access.usage import NO_EXPERT, Place, Spent
from server.config.api_keys import UNLIMITED, Key

Receipt = object
"""Names what a request that was let in is settled with: its reservation where it is counted here, else what
the process or the node that counts knows it by; 0: it has no limits, and was not counted yet."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that was let in. ``remaining``: what is left of its key's limits after it."""

    receipt: Receipt
    remaining: Remaining


class Counts(Protocol):
    """Counts in this process, or asks the one that does."""

    async def admit(self, key: Key, tokens: int, *, offline: bool) -> Admitted | Refusal:
        """Admits a request of ``key`` that may use ``tokens``. ``offline``: no client waits for it, so of the
        limits only the day's tokens hold. One whose caller is cancelled meanwhile is not admitted."""
        ...

    async def remaining(self, key: Key) -> Remaining:
        """Returns what is left of the key's limits now."""
        ...

    def settle(self, key: Key, receipt: Receipt | None, expert: str, spent: Spent) -> None:
        """Counts what a request used, once. ``receipt`` None: it was not let in. ``expert``: empty if it had
        none."""
        ...


class LocalCounts:
    """Implements ``Counts`` in this process."""

    def __init__(self, accounts: Accounts, clock: Callable[[], Instant] = now) -> None:
        self._accounts = accounts
        self._clock = clock
        self._rate_limits: dict[str, RateLimits] = {}

    def __repr__(self) -> str:
        return f"<LocalCounts {self._rate_limits}>"

    async def admit(self, key: Key, tokens: int, *, offline: bool) -> Admitted | Refusal:
        return self.admit_now(key, tokens, offline=offline)

    def admit_now(self, key: Key, tokens: int, *, offline: bool) -> Admitted | Refusal:
        limits, at = self.of(key.name), self._clock()
        admit = limits.admit_offline if offline else limits.admit
        decided = admit(key.limits, at, tokens)
        if isinstance(decided, Refusal):
            return decided
        return Admitted(decided, limits.remaining(key.limits, at))

    async def remaining(self, key: Key) -> Remaining:
        return self.remaining_now(key)

    def remaining_now(self, key: Key) -> Remaining:
        return self.of(key.name).remaining(key.limits, self._clock())

    def settle(self, key: Key, receipt: Receipt | None, expert: str, spent: Spent) -> None:
        limits, at = self.of(key.name), self._clock()
        if receipt == 0:
            receipt = limits.admit_offline(UNLIMITED, at, 0)
        if isinstance(receipt, Reservation):
            limits.settle(receipt, at, spent.prompt_tokens + spent.completion_tokens)
        day = receipt.day if isinstance(receipt, Reservation) else limits.day(at)
        self._accounts.note(Place(day, key.name, expert or NO_EXPERT), spent)

    def of(self, name: str) -> RateLimits:
        """Returns the figures of the key of this name."""
        found = self._rate_limits.get(name)
        if found is None:
            used = self._accounts.used.get(name, 0)
            found = self._rate_limits[name] = RateLimits(self._accounts.started, used)
        return found
