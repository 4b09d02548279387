"""Who leaves though nobody needs its place, and who comes back when all is quiet."""

from memory_tiers.events import Forget
from memory_tiers.state.evictions import Claims
from memory_tiers.state.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.host_copies import HostCopies, in_use
from memory_tiers.state.records import Books
from memory_tiers.tiers import TiersConfig


class Retirement:
    """1. An idle expert whose ``ttl_s`` is over goes down from the device.
    2. Orders are carried out as far as they can be now: whoever is ordered down gets no new leases, leaves
       the device when the last is released, and the host when nobody reads its copy; whoever is ordered to
       the host is read from disk. Who asks for it meanwhile waits until it has left, and has it loaded again.
    3. An expert that is not configured any more leaves once nobody waits for it, and is forgotten.
    4. An engine that nobody used for ``engine_idle_s`` is stopped, and so is one without experts.
    5. When nobody has asked for anything for ``return_to_default_s``, the defaults are called back, once.
    """

    def __init__(self, books: Books, claims: Claims, copies: HostCopies, config: TiersConfig) -> None:
        self._books = books
        self._claims = claims
        self._copies = copies
        self._engine_idle_s = config.engine_idle_s
        self._return_to_default_s = config.return_to_default_s

    def __repr__(self) -> str:
        return f"<Retirement of {', '.join(self._books.ordered) or 'nobody'}>"

    def retire(self) -> None:
        books = self._books
        for name in books.expiries.due(books.now):
            if name not in books.ordered:
                books.order(books.experts[name], "host", "idle")
        if (at := books.expiries.next) is not None:
            books.wake(at)
        for expert in [*books.ordered.values()]:
            self._obey(expert)
        for engine in [*books.engines.values()]:
            self._rest(engine)
        self._return_to_default()

    def _obey(self, expert: ExpertRecord) -> None:
        books = self._books
        if expert.removed and (expert.needed or self._stays_for_now(expert)):
            return
        if expert.device.presence == "present":
            if not expert.pinned and not expert.stuck:
                self._claims.for_good(expert, expert.order_reason)
            return
        if expert.device.presence != "absent" or expert.host.presence == "leaving":
            return
        if expert.ordered == "host" and expert.host.presence == "absent" and self._wants_copy(expert):
            self._copies.order(expert)
            return
        if expert.ordered == "disk" and expert.host.presence != "absent":
            if expert.host.presence == "present" and not in_use(expert):
                books.drop(expert, expert.order_reason)
            elif expert.host.presence == "arriving":
                books.abort_reading(expert)
            return
        if expert.host.presence == "arriving":
            return
        if not expert.removed:
            books.obeyed(expert)
        elif not expert.leases:
            books.forget(expert)
            books.actions.append(Forget(expert.name))

    def _stays_for_now(self, expert: ExpertRecord) -> bool:
        """It could not be given back before."""
        self._books.wake(expert.stays_until)
        if self._books.now < expert.stays_until:
            return True
        expert.stuck = False
        self._books.rank(expert)
        return False

    def _wants_copy(self, expert: ExpertRecord) -> bool:
        size = expert.weights_bytes
        return expert.order_reason == "operator" and 0 < size <= self._books.host.capacity

    def _rest(self, engine: EngineRecord) -> None:
        if engine.occupied or engine.state == "starting" or engine.leases or any(engine.in_line):
            return
        if engine.members and not self._has_rested(engine):
            return
        self._claims.stop(engine, None, "idle")

    def _has_rested(self, engine: EngineRecord) -> bool:
        if self._engine_idle_s is None or engine.state != "ready":
            return False
        if any(member.pinned or member.default for member in engine.members.values()):
            return False
        due = engine.last_used + self._engine_idle_s
        self._books.wake(due)
        return self._books.now >= due

    def _return_to_default(self) -> None:
        books = self._books
        if self._return_to_default_s is None or books.quiet_since is None:
            return
        due = books.quiet_since + self._return_to_default_s
        if books.now < due:
            books.wake(due)
            return
        books.quiet_since = None
        for expert in books.experts.values():
            if expert.default and not expert.removed and expert.ordered is None:
                books.want(expert)
