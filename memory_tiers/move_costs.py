"""Learns what moves cost on this machine from the moves made."""

from memory_tiers.tiers import Tier

WEIGHT_OF_LATEST = 0.3
"""The share of the latest measurement in the smoothed figure."""


class MoveCosts:
    """Smooths the seconds that a byte takes between two tiers, and those that an engine takes to wake."""

    def __init__(self) -> None:
        self._seconds_per_byte: dict[tuple[Tier, Tier], float] = {}
        self._wakes: dict[str, float] = {}

    def note(self, source: Tier, target: Tier, size: int, seconds: float) -> None:
        """Takes in a move of ``size`` bytes; moves without bytes say nothing."""
        if size <= 0:
            return
        latest = seconds / size
        before = self._seconds_per_byte.get((source, target), latest)
        self._seconds_per_byte[source, target] = before + WEIGHT_OF_LATEST * (latest - before)

    def note_wake(self, engine: str, source: Tier, size: int, seconds: float) -> None:
        """Takes in a load that woke ``engine``, for what it took beyond a load; where none was measured it
        says nothing."""
        load = self.of_move(source, "device", size)
        if load is not None and size > 0:
            latest = max(0.0, seconds - load)
            before = self._wakes.get(engine, latest)
            self._wakes[engine] = before + WEIGHT_OF_LATEST * (latest - before)

    def wake(self, engine: str) -> float:
        """Estimates the seconds that an engine takes to wake, beside the load that wakes it; 0 where that was
        not measured."""
        return self._wakes.get(engine, 0.0)

    def of_move(self, source: Tier, target: Tier, size: int) -> float | None:
        """Estimates the seconds of one move. None: not measured yet."""
        rate = self._seconds_per_byte.get((source, target))
        return None if rate is None else size * rate

    def bytes_per_s(self, source: Tier, target: Tier) -> float | None:
        """Returns how fast such moves were. None: not measured yet."""
        seconds = self._seconds_per_byte.get((source, target))
        return 1 / seconds if seconds else None

    def seconds(self, size: int, source: Tier) -> float | None:
        """Estimates the seconds from ``source`` to the device, over the host where that was measured. None:
        not measured yet."""
        rate = self._seconds_per_byte.get
        read, load, direct = rate(("disk", "host")), rate(("host", "device")), rate(("disk", "device"))
        if source != "disk":
            return size * load if load is not None else None
        if read is not None and load is not None:
            return size * (read + load)
        return size * direct if direct is not None else None
