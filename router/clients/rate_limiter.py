"""When the next call may start: so many a minute, and none before the endpoint wants to be asked again."""


class Pace:
    """Decides only: the caller has the clock and waits. Times are seconds of any one clock."""

    def __init__(self, per_minute: float | None = None) -> None:
        self._interval_s = 60 / per_minute if per_minute else 0.0
        self._next = float("-inf")

    def start(self, now: float) -> float:
        """Takes the next place and says when it begins."""
        begins = max(now, self._next)
        self._next = begins + self._interval_s
        return begins

    def hold(self, until: float) -> None:
        """No call begins before ``until``."""
        self._next = max(self._next, until)

    def __repr__(self) -> str:
        return f"<Pace, a call every {self._interval_s:g} s>"
