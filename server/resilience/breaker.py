"""Whether a part that fails again and again is still asked: for a while by nobody, then by one request."""


class Breaker:
    """Of one expert, or of one engine. Times are seconds of the caller's clock.

    Closed: everybody may ask. Open, after ``failures`` failures in a row: one request in each cool-down, the
    probe; the first bytes of its answer close it, and one failure more opens it again.

    A try has the number of failures before it. One that began before the latest failure says nothing new:
    neither the many that fail with the first, nor an answer that ends well though others have failed since.
    """

    def __init__(self, failures: int, cool_down_s: float) -> None:
        """``failures`` 0: it never opens."""
        self._failures = failures
        self._cool_down_s = cool_down_s
        self._failed = 0
        self._in_a_row = 0
        self._until: float | None = None  # the next probe may go then; None: closed

    def __repr__(self) -> str:
        state = "closed" if self._until is None else f"open until {self._until:.3f}"
        return f"<Breaker {state}, {self._in_a_row} failures in a row>"

    @property
    def is_open(self) -> bool:
        return self._until is not None

    @property
    def in_a_row(self) -> int:
        """Failures since the last answer that ended well."""
        return self._in_a_row

    def refuses_s(self, now: float) -> float:
        """Seconds until it lets somebody through; 0: now."""
        return 0.0 if self._until is None else max(0.0, self._until - now)

    def enter(self, now: float) -> int:
        """A try begins, of whom it does not refuse. Returns its number."""
        if self._until is not None:
            assert self._until <= now, self
            self._until = now + self._cool_down_s
        return self._failed

    def answered(self, number: int) -> None:
        """Its first bytes came."""
        if number == self._failed and self._until is not None:
            self._until = None
            self._in_a_row = self._failures - 1

    def ended(self, number: int) -> None:
        """It came to a good end."""
        if number == self._failed:
            self._until = None
            self._in_a_row = 0

    def failed(self, number: int, now: float) -> None:
        """By the part's own fault."""
        if number != self._failed:
            return
        self._failed += 1
        self._in_a_row += 1
        if 0 < self._failures <= self._in_a_row:
            self._until = now + self._cool_down_s

    def left(self, number: int, now: float) -> None:
        """It ended without a word about the part: if it was the probe, the next request is."""
        if number == self._failed and self._until is not None:
            self._until = now
