"""Takes note of how moves, starts and stops ended."""

from memory_tiers.actions import Move
from memory_tiers.state.decision.dispatch import Dispatch
from memory_tiers.state.decision.prefetch import Prefetch
from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.records.records import Records

AGAIN_S = 10.0
"""Seconds until a removed expert that could not be given back is given back again."""
HOST_FULL_S = 60.0
"""Seconds for which the host takes no more than it could hold when shared memory was found full."""
ATTEMPTS = 2
"""How often in a row an engine's start may fail, or an expert's load kill its engine, before the tickets that
wait are rejected. The next ticket tries again; an engine is also tried again after a pause without one."""


class Outcomes:
    """Takes note of what the driver carried out, or could not."""

    def __init__(self, records: Records, demand: Demand, prefetch: Prefetch, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._records = records
        self._demand = demand
        self._prefetch = prefetch

    def __repr__(self) -> str:
        return f"<Outcomes in {self._records.device!r}>"

    def moved(self, move: Move, size: int, image_bytes: int) -> None:
        """Notes a move that ended well: the expert holds ``size`` bytes in the target, and an image of
        ``image_bytes`` on the host."""
        records, expert = self._records, self._records.experts[move.expert]
        if move.target == "device":
            self._measured(expert, size)
            if move.reason == "prefetch":
                self._prefetch.ended("device", expert.load_seconds)
            self._loaded(expert, move.replaces, size)
            self._image_left(move, image_bytes)
        elif move.source == "device":
            expert.engine.busy = None
            records.leave_device(expert)
        elif move.target == "host":
            if move.reason == "prefetch":
                self._prefetch.ended("host", records.now - expert.host.read_began)
            records.staged(expert, size)
        else:
            records.leave_host(expert)

    def move_failed(self, move: Move, reason: str, device_full: bool) -> None:
        """Notes a move that failed: every copy is where it was, unless the engine died meanwhile."""
        records, expert = self._records, self._records.experts[move.expert]
        if move.target == "device":
            self._load_failed(expert, move, reason, device_full)
        elif move.source == "device":
            self._eviction_failed(expert)
        elif move.target == "host":
            self._read_failed(expert, reason)
        else:
            records.host.stay(expert.host)
            records.rank(expert)
            for replica in [*expert.replicas]:
                self._stays_for_now(replica)
            beneficiary = records.experts.get(move.beneficiary or "")
            if beneficiary is not None and beneficiary.device.presence == "absent":  # else it needs no room
                message = f"no room on the host for expert {beneficiary.name}: {reason}"
                self._demand.reject(beneficiary, "load_failed", message)

    def host_filled(self, move: Move, size: int) -> None:
        """Notes that shared memory had no room for a copy: for ``HOST_FULL_S`` the host holds no more than
        ``size`` bytes, and less than what it was to hold. Tickets wait on: the next decision makes room, or
        loads the expert from disk."""
        records, host = self._records, self._records.host
        most = max(0, min(size, host.used - 1))
        records.staging, records.aborting = None, False
        records.leave_host(records.experts[move.expert])
        if records.host_budget is None:
            records.host_budget = host.capacity
        host.resize(min(most, host.capacity))
        records.host_full_until = records.now + HOST_FULL_S

    def started(self, engine: EngineRecord, expert: ExpertRecord, size: int) -> None:
        """Notes that the engine runs and the expert holds ``size`` bytes in it."""
        engine.state, engine.detail, engine.failures = "ready", "", 0
        if engine.single_resident:  # another expert means another start
            self._measured(expert, size)
        self._loaded(expert, None, size)
        for other in engine.members.values():
            if other.pinned:
                self._demand.want(other)
            elif not (other.default or other.restored or other.ordered == "device"):
                self._demand.unwant(other)  # it was only to start the engine, which runs now

    def start_failed(self, engine: EngineRecord, expert: ExpertRecord, reason: str) -> None:
        """Notes that the engine does not run, and rejects all its tickets after ``ATTEMPTS`` failures."""
        engine.state, engine.detail, engine.busy = "dead", reason, None
        engine.failures += 1
        self._records.leave_device(expert)
        expert.failure = reason
        self._dispatch.redirect(engine)
        if engine.failures < ATTEMPTS:
            self._start_with_another(engine)
        else:
            for other in [*engine.queued]:
                message = f"the engine of family {engine.family} does not start: {reason}"
                self._demand.reject(other, "engine_failed", message)

    def stopped(self, engine: EngineRecord, *, asleep: bool) -> None:
        """Notes that the engine has stopped and given back what it held, or sleeps and has given back what
        its experts held."""
        for expert in [*engine.residents.values()]:
            self._records.leave_device(expert)
        engine.asleep = asleep
        if asleep:
            engine.stopping = False
            return
        if engine.holds:
            self._records.device.hold(-engine.held, engine.parts)
        engine.state, engine.stopping, engine.holds = "stopped", False, False
        if not engine.members:
            del self._records.engines[engine.family]

    def died(self, engine: EngineRecord, reason: str) -> None:
        """Notes that the engine ended by itself, and wants back what it held. A running move is settled when
        it ends, and leases stay until they are released."""
        assert engine.state == "ready", engine
        engine.state, engine.detail = "dead", reason
        if engine.asleep:  # nobody misses it: the next request starts it
            engine.asleep, engine.state = False, "stopped"
            return
        held = [expert for expert in engine.residents.values() if expert.device.presence == "present"]
        for expert in held:
            self._records.leave_device(expert)
        self._dispatch.redirect(engine)
        if not self._records.closing:
            for expert in sorted(held, key=lambda expert: expert.last_used, reverse=True):
                if expert.ordered is None:  # else it was to leave
                    self._demand.want(expert)
                    expert.restored = not expert.pinned
            self.want_engine(engine)

    def want_engine(self, engine: EngineRecord) -> None:
        """Wants the engine to run and to hold what is pinned; with no pin any expert starts it. Where an
        engine holds a single resident, none is stopped to start another that no ticket waits for."""
        if not any(expert.restored for expert in engine.queued):
            self._want_first(engine)
        for expert in engine.members.values():
            if expert.pinned:
                self._demand.want(expert)

    def _want_first(self, engine: EngineRecord) -> None:
        first = engine.first
        if first is not None and not first.wanted:
            self._demand.want(first)
            single = any(other.single_resident for other in self._records.engines.values())
            first.restored = single and not (first.pinned or first.default)

    def _start_with_another(self, engine: EngineRecord) -> None:
        """Wants another expert to start with: the first may be why the engine does not run."""
        first = engine.first
        if first is not None and not first.failure and all(other.failure for other in engine.queued):
            self._want_first(engine)

    def _measured(self, expert: ExpertRecord, size: int) -> None:
        """Takes in what a load took. Experts of which nothing was measured before are compared by it from now
        on: all of the engine's, and those of engines without a measurement of their own."""
        engine, unknown = expert.engine, expert.engine.seconds_per_byte is None
        expert.load_seconds = self._records.now - expert.load_began
        if engine.waking:  # which says less of a load
            engine.waking = False
            engine.woke(expert.load_seconds, size)
            return
        engine.took(expert.load_seconds, size)
        if unknown and engine.seconds_per_byte is not None:
            for other in self._records.experts.values():
                if other.engine is engine or other.engine.seconds_per_byte is None:
                    other.seconds_per_byte = engine.seconds_per_byte
                    self._records.rank(other)

    def _image_left(self, move: Move, size: int) -> None:
        """Charges what the host holds now that a load has ended: an image of ``size``, or the checkpoint, if
        the load found the checkpoint there."""
        expert = self._records.experts[move.expert]
        if not move.image:
            return
        expert.engine.images = size > 0
        if size > 0:
            self._records.host.recharge(expert.host, size)
            expert.host.image = True
        elif expert.host.image:
            self._records.leave_host(expert)
        else:
            self._records.host.recharge(expert.host, expert.weights_bytes)

    def _loaded(self, expert: ExpertRecord, replaces: str | None, size: int) -> None:
        records, engine = self._records, expert.engine
        engine.busy = None
        if replaces is not None:
            records.leave_device(records.experts[replaces])
        if engine.state != "ready":
            records.leave_device(expert)
            return
        expert.fatal_loads = 0
        expert.seconds_per_byte = records.seconds_per_byte(engine)
        records.loaded(expert)
        if expert.weights_bytes:  # a base among its adapters has none, and says nothing of theirs
            engine.scale = size / expert.weights_bytes
        records.device.settle(expert.device, size)
        if expert.needed and not expert.removed:
            records.clear_order(expert)
        self._stays(expert)
        if expert.cancelled:
            expert.cancelled = False
            if not expert.leases:
                records.order(expert, "host", "operator")

    def _stays(self, expert: ExpertRecord) -> None:
        """Grants the tickets of an expert that is on the device and no victim."""
        self._records.rank(expert)
        if not self._records.closing:
            self._demand.grant(expert)

    def _load_failed(self, expert: ExpertRecord, move: Move, reason: str, device_full: bool) -> None:
        records, engine = self._records, expert.engine
        engine.busy = None
        expert.cancelled = False
        records.leave_device(expert)
        if move.image and not expert.host.image:
            records.host.recharge(expert.host, expert.weights_bytes)
        replaced = records.experts[move.replaces] if move.replaces is not None else None
        if engine.state == "ready":
            if replaced is not None:
                records.device.stay(replaced.device)
                self._stays(replaced)
            self._give_up(expert, f"expert {expert.name} could not be loaded: {reason}")
            if move.source == "host" and not device_full and not expert.read_elsewhere:
                # The next try reads the disk, where it may have been mended.
                records.drop(expert, "unusable")
            return
        if replaced is not None:
            records.leave_device(replaced)
        expert.fatal_loads += 1
        if expert.fatal_loads >= ATTEMPTS:
            expert.fatal_loads = 0
            self._give_up(expert, f"loading expert {expert.name} killed its engine: {reason}")

    def _read_failed(self, expert: ExpertRecord, reason: str) -> None:
        records = self._records
        aborted, records.staging, records.aborting = records.aborting, None, False
        records.leave_host(expert)
        if aborted:  # tickets that came since then have it read again
            return
        message = f"expert {expert.expert} could not be read: {reason}"
        for replica in [*expert.replicas]:
            to_start = replica.wanted and replica.engine.state != "ready"
            if replica.engine.state != "ready":
                replica.engine.detail = message
            self._give_up(replica, message)
            if to_start:
                self._start_with_another(replica.engine)

    def _give_up(self, expert: ExpertRecord, message: str) -> None:
        if not expert.removed:
            self._records.clear_order(expert)
        self._demand.reject(expert, "load_failed", message)

    def _stays_for_now(self, expert: ExpertRecord) -> None:
        """Gives up the order of an expert that could not be given back; a removal is tried again."""
        if expert.removed:
            expert.stays_until = self._records.now + AGAIN_S
        else:
            self._records.clear_order(expert)

    def _eviction_failed(self, expert: ExpertRecord) -> None:
        expert.engine.busy = None
        if expert.engine.state == "ready":
            self._records.device.stay(expert.device)
            expert.stuck = True
            self._stays_for_now(expert)
            self._stays(expert)
        else:
            self._records.leave_device(expert)
