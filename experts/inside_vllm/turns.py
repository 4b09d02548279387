"""Whose step it is: the policy by which the experts of one engine share its steps. Pure; knows only names."""

from collections.abc import Iterable


class Turns:
    """An expert computes for a quantum of steps while others wait; then the one that waited longest goes.

    1. The active expert keeps the engine while it has work and its quantum lasts, or nobody else has work.
    2. Otherwise the expert that has waited longest goes next. Waiting counts from the step work was first
       seen, or from the end of the expert's last turn; of equals the one named first by the caller goes
       first.
    3. An expert that could not compute (``stalled``) gives up the rest of its quantum.

    So with E experts at work nobody waits longer than ``(E - 1) * quantum_steps`` steps.
    """

    def __init__(self, quantum_steps: int) -> None:
        if quantum_steps < 1:
            raise ValueError("quantum_steps must be at least 1")
        self._quantum = quantum_steps
        self._active: str | None = None
        self._left = 0
        self._clock = 0
        self._waiting_since: dict[str, int] = {}

    @property
    def active(self) -> str | None:
        return self._active

    def next(self, working: Iterable[str]) -> str | None:
        """The expert to compute for in this step, of those with work; None when nobody has any."""
        names = list(dict.fromkeys(working))
        self._clock += 1
        self._waiting_since = {name: self._waiting_since.get(name, self._clock) for name in names}
        others = [name for name in names if name != self._active]
        if self._active in names and (self._left > 0 or not others):  # 1
            self._left -= 1
        elif others:  # 2
            self._active = min(others, key=self._waiting_since.__getitem__)
            self._left = self._quantum - 1
        else:
            self._active, self._left = None, 0
        if self._active is not None:
            self._waiting_since[self._active] = self._clock + 1  # waits again once its turn has ended
        return self._active

    def stalled(self) -> None:
        """The step just decided computed nothing."""
        self._left = 0  # 3

    def __repr__(self) -> str:
        waiting = ", ".join(name for name in self._waiting_since if name != self._active)
        return f"<Turns [active: {self._active}, steps left: {self._left}, waiting: {waiting}]>"
