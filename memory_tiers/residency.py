"""The one decision: who gets a lease, who moves, who has to go."""

from collections.abc import Iterable
from itertools import islice

from memory_tiers.books import Books
from memory_tiers.events import Move, MoveReason, StartEngine
from memory_tiers.residents import ExpertRecord
from memory_tiers.tiers import Tier, TiersConfig

LOOKAHEAD = 16
"""How far into an engine's line a decision looks for an expert that it could bring while others are read."""
WORTH_IN_USE, WORTH_IDLE = 10.0, 1.0
"""By default an expert stays at least so many times as long as its load took. Whoever is used all the time
pays a tenth of it for moving weights at most; nobody waits long for the place of one that nobody uses."""


class Residency:
    """``decide`` is called after every event and appends what is to be done to ``Books.actions``.

    1. If measurements put the device over its budget, the policy's victims are claimed and evicted.
    2. Each engine's line is served in order: who has waited longer than ``max_wait_s`` first, then those for
       whom tickets wait, then what is only to be restored. Of the first few:
       a. weights are staged on the host, if the host budget allows, one after another, beside whatever else
          goes on; an expert that is being staged holds up nobody behind it;
       b. the first that could be loaded claims victims until there is room: idle ones first, then those that
          hold leases; nobody gets a new lease on a claimed expert, so it becomes idle. Behind it only those
          who have waited too long claim victims too: the others' experts serve meanwhile;
       c. claimed experts without leases are evicted, one move per engine at a time;
       d. with room and an idle engine, the expert is loaded, or its engine started with it.
       Room that one counts on is not given to another behind it. What is only to be restored claims nobody.
    3. Who waits for an expert that is no longer claimed gets the lease.

    *Minimum residency.* An expert is no victim before it has been on the device for some time, except of
    somebody who has waited longer than ``max_wait_s``: without it two experts that are asked for in turn
    would only be carried in and out.

    Nothing is decided anew where nothing changed that a decision could follow from, and nobody is looked at
    who cannot be helped now: the cost does not grow with the number of experts, nor with that of tickets.
    """

    def __init__(self, books: Books, config: TiersConfig) -> None:
        self._books = books
        self._max_wait_s = config.max_wait_s
        self._min_residency_s = config.min_residency_s
        self._previous: dict[str, str | None] = {}
        self._room = 0
        self._host_promised = False
        self._deadline: float | None = None

    @property
    def deadline(self) -> float | None:
        """When time alone will change a decision; None: never."""
        return self._deadline

    def decide(self) -> None:
        books = self._books
        due = self._deadline is not None and books.now >= self._deadline
        if books.closing:
            self._deadline = None
            return
        if not books.unsettled and not due:
            return
        books.unsettled = False
        self._deadline = None
        self._previous, books.claims = books.claims, {}
        self._room = books.device.free + books.device.leaving
        self._host_promised = books.staging is not None
        if self._room < 0:
            self._evict(self._claim_room(None, 0, forced=True), None)
        self._serve()
        for name in self._previous:
            expert = books.experts[name]
            if name not in books.claims and expert.device.presence == "present" and expert.needed:
                books.grant(expert)

    def _serve(self) -> None:
        """The first of each engine's line that can be loaded, and those behind it that waited too long."""
        first = [
            expert
            for engine in self._books.engines.values()
            for expert in islice(engine.line.values(), LOOKAHEAD)
            if expert.device.presence == "absent"
        ]
        served: set[str] = set()
        for expert in sorted(first, key=self._urgency):
            overdue = self._overdue(expert)
            if not overdue and expert.since is not None:
                self._wake(expert.since + self._max_wait_s)
            if (
                (overdue or expert.engine.family not in served)
                and self._staged(expert)
                and self._brings(expert)
            ):
                served.add(expert.engine.family)

    def _urgency(self, expert: ExpertRecord) -> tuple[bool, bool, int]:
        return expert.restored and not expert.waiting, not self._overdue(expert), expert.order

    def _overdue(self, expert: ExpertRecord) -> bool:
        since = expert.since
        return since is not None and self._books.now >= since + self._max_wait_s

    def _wake(self, at: float) -> None:
        if at > self._books.now and (self._deadline is None or at < self._deadline):
            self._deadline = at

    def _staged(self, expert: ExpertRecord) -> bool:
        """Whether a load may read the weights where they are now; starts to stage them on the host if not."""
        books, host = self._books, self._books.host
        if expert.host.presence != "absent":
            return expert.host.presence == "present"
        if expert.weights_bytes == 0 or expert.weights_bytes > host.capacity:
            return True
        if self._host_promised:
            return False
        image = expert.device_bytes if expert.engine.images else 0
        victims = self._host_victims(expert.weights_bytes + image)
        if victims is None:
            victims = self._host_victims(expert.weights_bytes)
        if victims is None:
            return True
        self._host_promised = True
        for victim in victims:
            host.leave(victim.host)
            books.rank(victim)
            books.actions.append(Move(victim.name, "host", "disk", "eviction", expert.name))
        if host.free >= expert.weights_bytes:
            books.staging = expert.name
            expert.host.bytes = expert.weights_bytes
            host.arrive(expert.host)
            books.actions.append(Move(expert.name, "disk", "host", _reason(expert)))
        return False

    def _host_victims(self, size: int) -> list[ExpertRecord] | None:
        """Whose host copies go for ``size`` bytes; None when enough cannot go now. A copy that a load reads,
        or that somebody waits for, stays."""
        books = self._books
        if size > books.host.capacity:
            return None
        missing = size - books.host.free - books.host.leaving
        victims: list[ExpertRecord] = []
        while missing > 0:
            victim = books.on_host.first(lambda other: other not in victims and not _in_use(other))
            if victim is None:
                return None
            victims.append(victim)
            missing -= victim.host.charged
        return victims

    def _brings(self, expert: ExpertRecord) -> bool:
        """Does what can be done now. False: it is given up, and whoever is next may have its turn."""
        books, engine = self._books, expert.engine
        replaced = self._replaced(expert) if engine.full else None
        if engine.full and replaced is None:
            return True
        size = expert.device_bytes
        needs = max(0, size - replaced.device.charged) if replaced else size
        if expert.restored and not expert.waiting and self._room < needs:
            books.unwant(expert)
            return False
        before = self._room
        victims = self._claim_room(expert.name, needs, forced=self._overdue(expert))
        if self._room < 0 and self._never_fits(expert, size):
            self._refuse(expert, size)
            self._room = before
            return False
        self._evict(victims, expert.name)
        has_room = self._room >= 0 and books.device.free >= needs
        if has_room and engine.busy is None and not (replaced and replaced.leases):
            self._load(expert, replaced)
        return True

    def _replaced(self, expert: ExpertRecord) -> ExpertRecord | None:
        """Claims the expert whose place this one takes in an engine that is full by count."""
        candidates = [
            other
            for other in expert.engine.residents.values()
            if self._may_be_claimed(other, self._overdue(expert)) and not other.pinned and not other.stuck
        ]
        if not candidates:
            return None
        rank = self._books.policy.rank
        victim = min(
            candidates, key=lambda other: (bool(other.leases), rank(other, "device"), other.last_used)
        )
        self._books.claims[victim.name] = expert.name
        return victim

    def _claim_room(self, rival: str | None, needs: int, *, forced: bool) -> list[ExpertRecord]:
        """Claims victims until ``needs`` bytes are free or will be, and sets those bytes aside. ``forced``:
        also such as have just come."""
        self._room -= needs
        victims: list[ExpertRecord] = []
        while self._room < 0:
            victim = self._victim(forced)
            if victim is None:
                break
            self._books.claims[victim.name] = rival
            self._room += victim.device.charged
            victims.append(victim)
        return victims

    def _victim(self, forced: bool) -> ExpertRecord | None:
        """Idle ones first; of those with leases such as were claimed before, so that a choice is kept."""

        def fits(expert: ExpertRecord) -> bool:
            return self._may_be_claimed(expert, forced)

        books = self._books
        kept = [books.experts[name] for name in self._previous if books.experts[name] in books.used]
        return books.idle.first(fits) or next(filter(fits, kept), None) or books.used.first(fits)

    def _may_be_claimed(self, expert: ExpertRecord, forced: bool) -> bool:
        if expert.device.presence != "present" or expert.name in self._books.claims:
            return False
        stays_until = expert.loaded_at + self._residency_s(expert)
        if forced or self._books.now >= stays_until:
            return True
        self._wake(stays_until)
        return False

    def _residency_s(self, expert: ExpertRecord) -> float:
        if self._min_residency_s is not None:
            return self._min_residency_s
        worth = WORTH_IN_USE if expert.leases else WORTH_IDLE
        return min(worth * expert.load_seconds, self._max_wait_s)

    def _never_fits(self, expert: ExpertRecord, size: int) -> bool:
        return size + self._immovable(expert) > self._books.device.capacity

    def _immovable(self, expert: ExpertRecord) -> int:
        """Bytes that no waiting will free for ``expert``."""
        return self._books.device.held + sum(
            other.device.charged
            for engine in self._books.engines.values()
            for other in engine.residents.values()
            if other.pinned or other.stuck or not (engine.gives_back or engine is expert.engine)
        )

    def _refuse(self, expert: ExpertRecord, size: int) -> None:
        """Rejects who waits for what can never fit, and gives up its claims."""
        books = self._books
        message = (
            f"expert {expert.name} needs {size:,} bytes on the device beside {self._immovable(expert):,} "
            f"that cannot leave, over the budget of {books.device.capacity:,}: raise tiers.device"
        )
        for engine in books.engines.values():
            for other in engine.residents.values():
                if other.stuck:
                    other.stuck = False
                    books.rank(other)
        books.claims = {victim: rival for victim, rival in books.claims.items() if rival != expert.name}
        books.reject(expert, "load_failed", message)

    def _evict(self, victims: Iterable[ExpertRecord], rival: str | None) -> None:
        """Those without leases, one move per engine at a time."""
        books = self._books
        reason: MoveReason = "over_budget" if rival is None else "eviction"
        for victim in victims:
            if victim.leases or victim.engine.busy:
                continue
            victim.engine.busy = victim.name
            books.device.leave(victim.device)
            books.rank(victim)
            del books.claims[victim.name]
            books.actions.append(Move(victim.name, "device", _below(victim), reason, rival))

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
        expert.load_began = books.now
        books.device.arrive(expert.device, instead_of=replaced.device if replaced else None)
        engine.busy = expert.name
        engine.residents[expert.name] = expert
        if replaced:
            books.rank(replaced)
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


def _in_use(expert: ExpertRecord) -> bool:
    """Whether a load reads its host copy or will."""
    device = expert.device.presence
    return device == "arriving" or (expert.needed and device != "present")


def _below(expert: ExpertRecord) -> Tier:
    """The highest tier under the device that holds the expert."""
    return "host" if expert.host.presence == "present" else "disk"


def _reason(expert: ExpertRecord) -> MoveReason:
    return "ticket" if expert.waiting else "preload"
