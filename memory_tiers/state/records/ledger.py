"""Counts the bytes of one tier: what each copy is charged, and what will be free soon."""

from dataclasses import dataclass

from memory_tiers.tiers import Presence


@dataclass(slots=True)
class Copy:
    """One expert's weights in one tier. ``bytes``: an estimate until a measurement replaces it."""

    bytes: int
    measured: bool = False
    presence: Presence = "absent"
    charged: int = 0


class Ledger:
    """Charges copies to a budget: in full from the moment they begin to arrive until they have left.

    A measurement may show more bytes than were planned. ``excess`` is what the measurements put above the
    budget; it blocks every arrival until enough has left, so ``used <= capacity + excess`` always holds.
    ``held``: bytes that the engines use themselves, whichever experts are resident.
    """

    def __init__(self, capacity: int, held: int = 0) -> None:
        self.capacity = capacity
        self.held = held
        self.used = held
        self.arriving = 0
        self.leaving = 0
        self.excess = 0

    def __repr__(self) -> str:
        return f"<Ledger {self.used}/{self.capacity} bytes, {self.leaving} leaving>"

    @property
    def free(self) -> int:
        """Bytes that the budget leaves; negative where measurements exceeded it."""
        return self.capacity - self.used

    def resize(self, capacity: int) -> None:
        """Sets another budget. What exceeds a smaller one has to leave."""
        self.capacity = capacity
        self.excess = max(0, self.used - self.capacity)

    def hold(self, size: int) -> None:
        """Charges ``size`` more bytes that an engine takes for itself, or fewer if negative."""
        self.held += size
        self.used += size
        self.excess = max(0, self.used - self.capacity)

    def arrive(self, copy: Copy, instead_of: Copy | None = None) -> None:
        """Charges a copy that begins to arrive. Bytes that it shares with the copy whose place it takes are
        charged once, to ``copy``."""
        assert copy.presence == "absent", copy
        if instead_of is not None:
            shared = min(instead_of.charged, copy.bytes)
            instead_of.charged -= shared
            self.used -= shared
            self.leave(instead_of)
        copy.presence, copy.charged = "arriving", copy.bytes
        self.used += copy.charged
        self.arriving += copy.charged
        assert self.used <= self.capacity + self.excess, f"{self!r} after {copy!r} arrived"

    def settle(self, copy: Copy, measured: int) -> None:
        """Charges a copy that has arrived what was measured."""
        assert copy.presence == "arriving", copy
        self.arriving -= copy.charged
        self.used += measured - copy.charged
        copy.presence, copy.charged, copy.bytes, copy.measured = "present", measured, measured, True
        self.excess = max(0, self.used - self.capacity)

    def recharge(self, copy: Copy, size: int) -> None:
        """Charges another size for a copy that takes, or will take, another form."""
        assert copy.presence == "present", copy
        self.used += size - copy.charged
        copy.charged = copy.bytes = size
        self.excess = max(0, self.used - self.capacity)

    def leave(self, copy: Copy) -> None:
        """Notes that a copy begins to leave; it stays charged until it has left."""
        assert copy.presence == "present", copy
        copy.presence = "leaving"
        self.leaving += copy.charged

    def stay(self, copy: Copy) -> None:
        """Keeps, and charges in full, a copy that was to leave and whose move failed."""
        assert copy.presence == "leaving", copy
        self.leaving -= copy.charged
        self.used += copy.bytes - copy.charged
        copy.presence, copy.charged = "present", copy.bytes
        self.excess = max(0, self.used - self.capacity)

    def vanish(self, copy: Copy) -> None:
        """Frees the bytes of a copy that is not there any more, or never arrived."""
        if copy.presence == "leaving":
            self.leaving -= copy.charged
        elif copy.presence == "arriving":
            self.arriving -= copy.charged
        self.used -= copy.charged
        copy.presence, copy.charged = "absent", 0
        self.excess = max(0, self.used - self.capacity)
