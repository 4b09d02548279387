"""The one decision: who gets a lease, who moves, who has to go."""

from collections import deque
from collections.abc import Iterable

from memory_tiers.books import Books
from memory_tiers.events import Move, MoveReason, StartEngine
from memory_tiers.policy import Policy
from memory_tiers.residents import EngineRecord, ExpertRecord
from memory_tiers.tiers import Tier


class Residency:
    """``decide`` is called after every event and appends what is to be done to ``Books.actions``.

    1. Who waits for an expert on the device gets the lease, unless the expert is claimed by an older ticket.
    2. If measurements put the device over its budget, the policy's victims are claimed and evicted.
    3. For each expert that is needed and not on the device, oldest ticket first:
       a. its weights are staged on the host, if the host budget allows, beside whatever else goes on;
       b. victims are claimed until there is room: idle ones first, then those that hold leases; nobody gets
          a new lease on a claimed expert, so it becomes idle;
       c. claimed experts without leases are evicted, one move per engine at a time;
       d. with room and an idle engine, the expert is loaded, or its engine started with it.
       Room that an older ticket counts on is not given to a younger one. An expert that is only to be
       restored after its engine died claims nobody: without room for it, it is not restored.
    4. Claims may have changed: who waits for an expert that is no longer claimed gets the lease.
    """

    def __init__(self, books: Books, policy: Policy) -> None:
        self._books = books
        self._policy = policy
        self._previous: dict[str, str | None] = {}
        self._candidates: deque[ExpertRecord] | None = None
        self._room = 0
        self._host_promised = False

    def decide(self) -> None:
        books = self._books
        if books.closing:
            return
        self._drop_stale_claims()
        self._grant()
        self._previous, books.claims = books.claims, {}
        self._candidates = None
        self._room = books.device.free + books.device.leaving
        self._host_promised = books.staging is not None
        if self._room < 0:
            self._evict(self._claim_room(None, 0), None)
        for expert in sorted(books.needed.values(), key=_urgency):
            if expert.device.presence == "absent" and self._staged(expert):
                self._bring(expert)
        self._grant()

    def _drop_stale_claims(self) -> None:
        """A claim ends with the need for it; a claim of the budget is made anew each time."""
        needed = self._books.needed
        self._books.claims = {
            victim: rival
            for victim, rival in self._books.claims.items()
            if rival is None or (rival in needed and needed[rival].device.presence == "absent")
        }

    def _grant(self) -> None:
        for expert in list(self._books.needed.values()):
            if expert.device.presence == "present" and expert.name not in self._books.claims:
                self._books.grant(expert)

    def _staged(self, expert: ExpertRecord) -> bool:
        """Whether a load may read the weights where they are now; starts to stage them on the host if not."""
        books, host = self._books, self._books.host
        if expert.host.presence != "absent":
            return expert.host.presence == "present"
        if expert.weights_bytes > host.capacity:
            return True
        if self._host_promised:
            return False
        image = expert.device_bytes if expert.engine.images else 0
        victims = self._host_victims(expert, expert.weights_bytes + image)
        if victims is None:
            victims = self._host_victims(expert, expert.weights_bytes)
        if victims is None:
            return True
        self._host_promised = True
        for victim in victims:
            host.leave(victim.host)
            books.actions.append(Move(victim.name, "host", "disk", "eviction", expert.name))
        if host.free >= expert.weights_bytes:
            books.staging = expert.name
            expert.host.bytes = expert.weights_bytes
            host.arrive(expert.host)
            books.actions.append(Move(expert.name, "disk", "host", _reason(expert)))
        return False

    def _host_victims(self, expert: ExpertRecord, size: int) -> list[ExpertRecord] | None:
        """Whose host copies go for ``size`` bytes of ``expert``; None when enough cannot go now. A copy that
        a load reads, or that somebody waits for, stays."""
        if size > self._books.host.capacity:
            return None
        missing = size - self._books.host.free - self._books.host.leaving
        victims: list[ExpertRecord] = []
        if missing <= 0:
            return victims
        for other in sorted(self._books.experts.values(), key=lambda other: self._policy.rank(other)):
            device = other.device.presence
            in_use = device == "arriving" or (other.needed and device != "present")
            if other.host.presence == "present" and not in_use:
                victims.append(other)
                missing -= other.host.charged
                if missing <= 0:
                    return victims
        return None

    def _bring(self, expert: ExpertRecord) -> None:
        books, engine = self._books, expert.engine
        replaced = self._replaced(expert) if engine.full else None
        if engine.full and replaced is None:
            return
        size = expert.device_bytes
        needs = max(0, size - replaced.device.charged) if replaced else size
        if expert.restored and not expert.waiting and self._room < needs:
            books.unwant(expert)
            return
        before = self._room
        victims = self._claim_room(expert.name, needs)
        if self._room < 0 and self._never_fits(expert, size):
            self._refuse(expert, size)
            self._room = before
            return
        self._evict(victims, expert.name)
        has_room = self._room >= 0 and books.device.free >= needs
        if has_room and engine.busy is None and not (replaced and replaced.leases):
            self._load(expert, replaced)

    def _replaced(self, expert: ExpertRecord) -> ExpertRecord | None:
        """Claims the expert whose place this one takes in an engine that is full by count."""
        victims = self._ordered([expert.engine])
        if not victims:
            return None
        self._books.claims[victims[0].name] = expert.name
        return victims[0]

    def _claim_room(self, rival: str | None, needs: int) -> list[ExpertRecord]:
        """Claims victims until ``needs`` bytes are free or will be, and sets those bytes aside."""
        self._room -= needs
        victims: list[ExpertRecord] = []
        if self._room < 0 and self._candidates is None:
            engines = [engine for engine in self._books.engines.values() if engine.resident_limit is None]
            self._candidates = deque(self._ordered(engines))
        while self._room < 0 and self._candidates:
            victim = self._candidates.popleft()
            self._books.claims[victim.name] = rival
            self._room += victim.device.charged
            victims.append(victim)
        return victims

    def _ordered(self, engines: Iterable[EngineRecord]) -> list[ExpertRecord]:
        """Who of ``engines`` may have to leave, best first: idle ones, then those claimed before, so that a
        choice is kept, then by policy."""
        candidates = [
            expert
            for engine in engines
            for expert in engine.residents.values()
            if expert.device.presence == "present"
            and not expert.pinned
            and not expert.stuck
            and expert.name not in self._books.claims
        ]
        candidates.sort(key=self._preference)
        return candidates

    def _preference(self, victim: ExpertRecord) -> tuple[bool, bool, float]:
        return bool(victim.leases), victim.name not in self._previous, self._policy.rank(victim)

    def _never_fits(self, expert: ExpertRecord, size: int) -> bool:
        return size + self._immovable(expert) > self._books.device.capacity

    def _immovable(self, expert: ExpertRecord) -> int:
        """Bytes that no waiting will free for ``expert``."""
        return sum(
            other.device.charged
            for engine in self._books.engines.values()
            for other in engine.residents.values()
            if other.pinned
            or other.stuck
            or (engine.resident_limit is not None and engine is not expert.engine)
        )

    def _refuse(self, expert: ExpertRecord, size: int) -> None:
        """Rejects who waits for what can never fit, and gives up its claims."""
        books = self._books
        message = (
            f"expert {expert.name} needs {size:,} bytes on the device beside {self._immovable(expert):,} "
            f"that cannot leave, over the budget of {books.device.capacity:,}: raise tiers.device"
        )
        for other in books.experts.values():
            other.stuck = False
        books.claims = {victim: rival for victim, rival in books.claims.items() if rival != expert.name}
        self._candidates = None
        books.reject(expert, "load_failed", message)

    def _evict(self, victims: Iterable[ExpertRecord], rival: str | None) -> None:
        """Those without leases, one move per engine at a time."""
        reason: MoveReason = "over_budget" if rival is None else "eviction"
        for victim in victims:
            if victim.leases or victim.engine.busy:
                continue
            victim.engine.busy = victim.name
            self._books.device.leave(victim.device)
            del self._books.claims[victim.name]
            self._books.actions.append(Move(victim.name, "device", _below(victim), reason, rival))

    def _load(self, expert: ExpertRecord, replaced: ExpertRecord | None) -> None:
        books, engine, source = self._books, expert.engine, _below(expert)
        if engine.state == "ready":
            replaces = replaced.name if replaced else None
            image = self._reserve_image(expert)
            books.actions.append(
                Move(expert.name, source, "device", _reason(expert), replaces=replaces, image=image)
            )
        elif any(other.state == "starting" for other in books.engines.values()):
            return
        else:
            engine.state, engine.starts = "starting", engine.starts + 1
            books.actions.append(StartEngine(engine.family, expert.name, source))
        expert.device.bytes = expert.device_bytes
        books.device.arrive(expert.device, instead_of=replaced.device if replaced else None)
        engine.busy = expert.name
        engine.residents[expert.name] = expert
        if replaced:
            del books.claims[replaced.name]

    def _reserve_image(self, expert: ExpertRecord) -> bool:
        """Whether the host has, or has room for, an image. A checkpoint and the image made of it are there at
        the same time until the load ends."""
        host = self._books.host
        if expert.host.presence != "present" or not expert.engine.images:
            return False
        if expert.image:
            return True
        if host.free < expert.device_bytes:
            return False
        host.recharge(expert.host, expert.host.charged + expert.device_bytes)
        return True


def _urgency(expert: ExpertRecord) -> tuple[bool, int]:
    return expert.restored and not expert.waiting, expert.order


def _below(expert: ExpertRecord) -> Tier:
    """The highest tier under the device that holds the expert."""
    return "host" if expert.host.presence == "present" else "disk"


def _reason(expert: ExpertRecord) -> MoveReason:
    return "ticket" if expert.waiting else "preload"
