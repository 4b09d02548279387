"""Counts the bytes of one tier: what each copy is charged, and what will be free soon.

A tier has parts, each with a budget of its own: the host is one part; the device is one, or a part for each
GPU. A copy takes the same bytes of each of the parts that it is in (tensor parallelism divides an expert).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memory_tiers.tiers import Presence

ALL = 0
"""The part of a tier that is one."""
Parts = tuple[int, ...]


def whole(size: int, parts: Sequence[int]) -> int:
    """Rounds ``size`` up to what can be divided evenly among ``parts``."""
    return -(-size // len(parts)) * len(parts)


@dataclass(slots=True)
class Copy:
    """One expert's weights in one tier. ``bytes``: what they take, as estimated when they began to arrive,
    until a measurement replaces it. ``parts``: where they are, or would be; a tier charges the bytes in equal
    shares."""

    bytes: int = 0
    measured: bool = False
    presence: Presence = "absent"
    charged: int = 0
    parts: Parts = (ALL,)


@dataclass(slots=True)
class HostCopy(Copy):
    """One expert's weights on the host, which all engines of its family read. ``image``: whether it is in the
    engine's format, not the checkpoint."""

    image: bool = False
    read_began: float = 0.0
    copied_at: float = 0.0


@dataclass(slots=True)
class Part:
    """The account of one part of a tier, in bytes; the fields are as of ``Ledger``."""

    capacity: int
    held: int = 0
    used: int = 0
    arriving: int = 0
    leaving: int = 0
    excess: int = 0

    @property
    def free(self) -> int:
        """Bytes that the budget leaves; negative where measurements exceeded it."""
        return self.capacity - self.used

    def measure(self) -> None:
        """Takes what is used now for what the budget has to bear."""
        self.excess = max(0, self.used - self.capacity)


class Ledger:
    """Charges copies to budgets: in full from the moment they begin to arrive until they have left.

    A measurement may show more bytes than were planned. A part's ``excess`` is what the measurements put
    above its budget; it blocks every arrival there until enough has left, so ``used <= capacity + excess``
    always holds. ``held``: bytes that the engines use themselves, whichever experts are resident.
    """

    def __init__(self, capacity: int | Mapping[int, int]) -> None:
        """``capacity``: of a tier that is one, or of each part."""
        capacities = {ALL: capacity} if isinstance(capacity, int) else capacity
        self.parts = {number: Part(size) for number, size in capacities.items()}
        self.capacity = sum(capacities.values())
        """The budget of all parts together, as the other sums are."""

    def __repr__(self) -> str:
        parts = ", ".join(f"{part.used}/{part.capacity}" for part in self.parts.values())
        return f"<Ledger {parts} bytes, {self.leaving} leaving>"

    @property
    def used(self) -> int:
        return sum(part.used for part in self.parts.values())

    @property
    def arriving(self) -> int:
        return sum(part.arriving for part in self.parts.values())

    @property
    def leaving(self) -> int:
        return sum(part.leaving for part in self.parts.values())

    @property
    def free(self) -> int:
        return sum(part.free for part in self.parts.values())

    def fits(self, size: int, parts: Parts) -> bool:
        """Whether each of ``parts`` has room now for its share of ``size``."""
        share = whole(size, parts) // len(parts)
        return all(self.parts[number].free >= share for number in parts)

    def resize(self, capacity: int) -> None:
        """Sets another budget of a tier that is one. What exceeds a smaller one has to leave."""
        (part,) = self.parts.values()
        part.capacity = self.capacity = capacity
        part.measure()

    def hold(self, size: int, parts: Parts = (ALL,)) -> None:
        """Charges ``size`` more bytes that an engine takes for itself, or fewer if negative."""
        for part, share in self._shares(size, parts):
            part.held += share
            part.used += share
            part.measure()

    def arrive(self, copy: Copy, instead_of: Copy | None = None) -> None:
        """Charges a copy that begins to arrive. Bytes that it shares with the copy whose place it takes are
        charged once, to ``copy``."""
        assert copy.presence == "absent", copy
        copy.bytes = whole(copy.bytes, copy.parts)
        if instead_of is not None:
            assert instead_of.parts == copy.parts, copy
            shared = min(instead_of.charged, copy.bytes)
            self._charge(instead_of, instead_of.charged - shared)
            self.leave(instead_of)
        copy.presence = "arriving"
        self._charge(copy, copy.bytes)
        for part, share in self._shares(copy.charged, copy.parts):
            part.arriving += share
            assert part.used <= part.capacity + part.excess, f"{self!r} after {copy!r} arrived"

    def settle(self, copy: Copy, measured: int) -> None:
        """Charges a copy that has arrived what was measured."""
        assert copy.presence == "arriving", copy
        self._arrives_no_more(copy)
        copy.presence, copy.measured, copy.bytes = "present", True, whole(measured, copy.parts)
        self._charge(copy, copy.bytes)
        self._measure(copy)

    def recharge(self, copy: Copy, size: int) -> None:
        """Charges another size for a copy that takes, or will take, another form."""
        assert copy.presence == "present", copy
        copy.bytes = whole(size, copy.parts)
        self._charge(copy, copy.bytes)
        self._measure(copy)

    def leave(self, copy: Copy) -> None:
        """Notes that a copy begins to leave; it stays charged until it has left."""
        assert copy.presence == "present", copy
        copy.presence = "leaving"
        for part, share in self._shares(copy.charged, copy.parts):
            part.leaving += share

    def stay(self, copy: Copy) -> None:
        """Keeps, and charges in full, a copy that was to leave and whose move failed."""
        assert copy.presence == "leaving", copy
        self._leaves_no_more(copy)
        copy.presence = "present"
        self._charge(copy, copy.bytes)
        self._measure(copy)

    def vanish(self, copy: Copy) -> None:
        """Frees the bytes of a copy that is not there any more, or never arrived."""
        if copy.presence == "leaving":
            self._leaves_no_more(copy)
        elif copy.presence == "arriving":
            self._arrives_no_more(copy)
        copy.presence = "absent"
        self._charge(copy, 0)
        self._measure(copy)

    def _charge(self, copy: Copy, size: int) -> None:
        for part, share in self._shares(size - copy.charged, copy.parts):
            part.used += share
        copy.charged = size

    def _arrives_no_more(self, copy: Copy) -> None:
        for part, share in self._shares(copy.charged, copy.parts):
            part.arriving -= share

    def _leaves_no_more(self, copy: Copy) -> None:
        for part, share in self._shares(copy.charged, copy.parts):
            part.leaving -= share

    def _measure(self, copy: Copy) -> None:
        for number in copy.parts:
            self.parts[number].measure()

    def _shares(self, size: int, parts: Parts) -> list[tuple[Part, int]]:
        assert size % len(parts) == 0, f"{size} bytes in {len(parts)} parts"
        return [(self.parts[number], size // len(parts)) for number in parts]
