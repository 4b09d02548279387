"""Counts what a key has used of its limits, as nodes tell it each other, and the sum at the key's home."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from server.access.rate_limits import Instant, RateLimits, Refusal, Remaining, Reservation
from server.config.api_keys import Limits


class Figures(BaseModel):
    """Counts what one node has let in for a key. ``requests`` and ``tokens``: by how many seconds ago they
    were charged, of the last minute. ``open``: requests under way. ``day``: days since 1970, of UTC."""

    model_config = ConfigDict(frozen=True)

    requests: Mapping[int, int] = {}
    tokens: Mapping[int, int] = {}
    open: int = 0
    day: int = 0
    day_tokens: int = 0

    @classmethod
    def of(cls, counted: RateLimits, at: Instant) -> "Figures":
        day = counted.day(at)
        return cls(
            requests=counted.requests.ages(at.steady),
            tokens=counted.tokens.ages(at.steady),
            open=counted.open,
            day=day,
            day_tokens=counted.day_tokens,
        )

    def aged(self, seconds: float) -> "Figures":
        """Returns the figures of a node that has told nothing for so many seconds and is gone: nothing of it
        is under way."""
        by = int(seconds)
        return self.model_copy(
            update={
                "requests": {age + by: amount for age, amount in self.requests.items()},
                "tokens": {age + by: amount for age, amount in self.tokens.items()},
                "open": 0,
            }
        )

    @property
    def minute(self) -> "Figures":
        """Returns what counts for the minute alone."""
        return self.model_copy(update={"day": 0, "day_tokens": 0})


def summed(parts: Iterable[Figures], at: Instant) -> RateLimits:
    """Returns a count of all that the parts have."""
    parts = [*parts]
    whole = RateLimits()
    day = whole.day(at)
    whole.requests.fill(at.steady, [part.requests for part in parts])
    whole.tokens.fill(at.steady, [part.tokens for part in parts])
    whole.take(sum(part.open for part in parts), sum(part.day_tokens for part in parts if part.day == day))
    return whole


class KeyTotal:
    """Sums what all nodes have let in for one key, counted at its home. ``members``: the nodes that were
    asked for their figures when it was made."""

    def __init__(self, members: Mapping[str, Figures], gone: Iterable[Figures], at: Instant) -> None:
        """``gone``: the last figures of nodes that are not there any more."""
        self._whole = summed([*members.values(), *gone], at)
        self._open = {member: figures.open for member, figures in members.items()}

    def __repr__(self) -> str:
        return f"<KeyTotal {self._whole!r} of {len(self._open)} nodes>"

    @property
    def members(self) -> frozenset[str]:
        return frozenset(self._open)

    def admit(
        self, member: str, limits: Limits, at: Instant, tokens: int, *, offline: bool
    ) -> Reservation | Refusal:
        """Lets in a request that came to ``member``, or returns why not."""
        admit = self._whole.admit_offline if offline else self._whole.admit
        decided = admit(limits, at, tokens)
        if isinstance(decided, Reservation) and not offline:
            self._open[member] = self._open.get(member, 0) + 1
        return decided

    def settle(self, member: str, reservation: Reservation, at: Instant, tokens: int) -> None:
        """Puts right what a request of ``member`` was charged."""
        if not reservation.offline:
            if not self._open.get(member):
                return  # it was gone meanwhile, and is charged as it was told
            self._open[member] -= 1
        self._whole.settle(reservation, at, tokens)

    def lost(self, member: str) -> None:
        """Notes that nothing of ``member`` is under way any more. What it had used counts on."""
        self._whole.take(-self._open.pop(member, 0), 0)

    def remaining(self, limits: Limits, at: Instant) -> Remaining:
        return self._whole.remaining(limits, at)
