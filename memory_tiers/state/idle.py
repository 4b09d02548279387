"""Who leaves though nobody needs its place, and who comes back when all is quiet."""

from memory_tiers.events import Forget
from memory_tiers.state.evictions import Evictions
from memory_tiers.state.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.host_copies import HostCopies, in_use
from memory_tiers.state.records import Records
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

    def __init__(
        self, records: Records, evictions: Evictions, copies: HostCopies, config: TiersConfig
    ) -> None:
        self._records = records
        self._evictions = evictions
        self._copies = copies
        self._engine_idle_s = config.engine_idle_s
        self._return_to_default_s = config.return_to_default_s

    def __repr__(self) -> str:
        return f"<Retirement of {', '.join(self._records.ordered) or 'nobody'}>"

    def retire(self) -> None:
        records = self._records
        for name in records.expiries.due(records.now):
            if name not in records.ordered:
                records.order(records.experts[name], "host", "idle")
        if (at := records.expiries.next) is not None:
            records.wake(at)
        for expert in [*records.ordered.values()]:
            self._obey(expert)
        for engine in [*records.engines.values()]:
            self._rest(engine)
        self._return_to_default()

    def _obey(self, expert: ExpertRecord) -> None:
        records = self._records
        if expert.removed and (expert.needed or self._stays_for_now(expert)):
            return
        if expert.device.presence == "present":
            if not expert.pinned and not expert.stuck:
                self._evictions.send_away(expert, expert.order_reason)
            return
        if expert.device.presence != "absent" or expert.host.presence == "leaving":
            return
        if expert.ordered == "host" and expert.host.presence == "absent" and self._wants_copy(expert):
            self._copies.order(expert)
            return
        if expert.ordered == "disk" and expert.host.presence != "absent":
            if expert.host.presence == "present" and not in_use(expert):
                records.drop(expert, expert.order_reason)
            elif expert.host.presence == "arriving":
                records.abort_reading(expert)
            return
        if expert.host.presence == "arriving":
            return
        if not expert.removed:
            records.clear_order(expert)
        elif not expert.leases:
            records.forget(expert)
            records.actions.append(Forget(expert.name))

    def _stays_for_now(self, expert: ExpertRecord) -> bool:
        """It could not be given back before."""
        self._records.wake(expert.stays_until)
        if self._records.now < expert.stays_until:
            return True
        expert.stuck = False
        self._records.rank(expert)
        return False

    def _wants_copy(self, expert: ExpertRecord) -> bool:
        size = expert.weights_bytes
        return expert.order_reason == "operator" and 0 < size <= self._records.host.capacity

    def _rest(self, engine: EngineRecord) -> None:
        if engine.occupied or engine.state == "starting" or engine.leases or any(engine.queued):
            return
        if engine.members and not self._has_rested(engine):
            return
        self._evictions.stop(engine, None, "idle")

    def _has_rested(self, engine: EngineRecord) -> bool:
        if self._engine_idle_s is None or engine.state != "ready":
            return False
        if any(member.pinned or member.default for member in engine.members.values()):
            return False
        due = engine.last_used + self._engine_idle_s
        self._records.wake(due)
        return self._records.now >= due

    def _return_to_default(self) -> None:
        records = self._records
        if self._return_to_default_s is None or records.quiet_since is None:
            return
        due = records.quiet_since + self._return_to_default_s
        if records.now < due:
            records.wake(due)
            return
        records.quiet_since = None
        for expert in records.experts.values():
            if expert.default and not expert.removed and expert.ordered is None:
                records.want(expert)
