"""Room on the host: which copies go, and what is read from disk."""

from collections.abc import Callable

from memory_tiers.events import Move, MoveReason
from memory_tiers.state.expert_record import ExpertRecord
from memory_tiers.state.records import Books


class HostCopies:
    """Weights are staged one after another, beside whatever else goes on. Within one decision ``promised``:
    what is read next is settled, whether it could begin or not."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.promised = False

    def __repr__(self) -> str:
        return f"<HostCopies staging {self._books.staging}{' promised' if self.promised else ''}>"

    def begin(self) -> None:
        """Copies over a budget that became smaller go."""
        books = self._books
        self.promised = books.staging is not None
        if books.host.free + books.host.leaving < 0:
            for victim in self._victims(0) or []:
                books.drop(victim, "over_budget")

    def readable(self, expert: ExpertRecord, reason: MoveReason) -> bool:
        """Whether a load may read the weights where they are now; starts to stage them on the host if not. A
        prefetch that is read meanwhile makes way."""
        books, host = self._books, self._books.host
        if expert.host.presence != "absent":
            return expert.host.presence == "present"
        if expert.weights_bytes == 0 or expert.weights_bytes > host.capacity:
            return True
        if self.promised:
            staging = books.staging
            if staging is not None and staging.reason == "prefetch":
                books.abort_reading(books.experts[staging.expert])
            return False
        image = expert.device_bytes if expert.engine.images else 0
        victims = self._victims(expert.weights_bytes + image)
        if victims is None:
            victims = self._victims(expert.weights_bytes)
        if victims is None:
            return True
        self._stage(expert, reason, victims)
        return False

    def prefetch(self, expert: ExpertRecord, worth_it: Callable[[ExpertRecord], bool]) -> bool:
        """Whether it begins or could: room comes of copies that are worth it, and of no other."""
        if self.promised or expert.host.presence != "absent":
            return False
        victims = self._victims(expert.weights_bytes)
        if victims is None or not all(map(worth_it, victims)):
            return False
        self._stage(expert, "prefetch", victims)
        return True

    def order(self, expert: ExpertRecord) -> None:
        """An operator wants a copy of it here."""
        if not self.promised and expert.host.presence == "absent":
            victims = self._victims(expert.weights_bytes)
            if victims is not None:
                self._stage(expert, "operator", victims)

    def _stage(self, expert: ExpertRecord, reason: MoveReason, victims: list[ExpertRecord]) -> None:
        """Begins once the victims have left; that they go is decided anew then."""
        books, host = self._books, self._books.host
        self.promised = True
        for victim in victims:
            books.drop(victim, "eviction", expert.name)
        if host.free >= expert.weights_bytes:
            move = Move(expert.name, "disk", "host", reason)
            books.staging = move
            if reason == "prefetch":
                books.prefetched[expert.name, "host"] = expert
            expert.read_began = books.now
            expert.host.bytes = expert.weights_bytes
            host.arrive(expert.host)
            books.actions.append(move)

    def _victims(self, size: int) -> list[ExpertRecord] | None:
        """Whose host copies go for ``size`` bytes; None when enough cannot go now. A copy that a load reads,
        or that somebody waits for, stays."""
        books = self._books
        if size > books.host.capacity:
            return None
        missing = size - books.host.free - books.host.leaving
        victims: list[ExpertRecord] = []
        while missing > 0:
            victim = books.on_host.first(lambda other: other not in victims and not in_use(other))
            if victim is None:
                return None
            victims.append(victim)
            missing -= victim.host.charged
        return victims


def in_use(expert: ExpertRecord) -> bool:
    """Whether a load reads its host copy or will."""
    device = expert.device.presence
    return device == "arriving" or (expert.needed and device != "present")
