"""What moves cost on this machine, learned from the moves made."""

from memory_tiers.tiers import Tier

WEIGHT_OF_LATEST = 0.3


class MoveCosts:
    """Smoothed seconds per byte between two tiers."""

    def __init__(self) -> None:
        self._seconds_per_byte: dict[tuple[Tier, Tier], float] = {}

    def note(self, source: Tier, target: Tier, size: int, seconds: float) -> None:
        if size <= 0:
            return
        latest = seconds / size
        before = self._seconds_per_byte.get((source, target), latest)
        self._seconds_per_byte[source, target] = before + WEIGHT_OF_LATEST * (latest - before)

    def of_move(self, source: Tier, target: Tier, size: int) -> float | None:
        """Seconds. None: not measured yet."""
        rate = self._seconds_per_byte.get((source, target))
        return None if rate is None else size * rate

    def seconds(self, size: int, source: Tier) -> float | None:
        """From ``source`` to the device, over the host where that was measured. None: not measured yet."""
        rate = self._seconds_per_byte.get
        read, load, direct = rate(("disk", "host")), rate(("host", "device")), rate(("disk", "device"))
        if source != "disk":
            return size * load if load is not None else None
        if read is not None and load is not None:
            return size * (read + load)
        return size * direct if direct is not None else None
