"""Room on the device: who has to go for it, and their leaving."""

from collections.abc import Callable, Iterable

from memory_tiers.events import Move, MoveReason, StopEngine
from memory_tiers.state.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.records import Records
from memory_tiers.tiers import Tier, TiersConfig

WORTH_IN_USE, WORTH_IDLE = 10.0, 1.0
"""By default an expert stays at least so many times as long as its load took. Whoever is used all the time
pays a tenth of it for moving weights at most; nobody waits long for the place of one that nobody uses."""


class Evictions:
    """Within one decision: ``room`` is what will be free on the device once all victims have left, less
    what was set aside for those served so far.

    *Minimum residency.* An expert is no victim before it has been on the device for some time, except of
    somebody who has waited longer than ``max_wait_s``: without it two experts that are asked for in turn
    would only be carried in and out.
    """

    def __init__(self, records: Records, config: TiersConfig) -> None:
        self._records = records
        self._max_wait_s = config.max_wait_s
        self._min_residency_s = config.min_residency_s
        self._previous: dict[str, str | None] = {}
        self.room = 0

    def __repr__(self) -> str:
        return f"<Evictions room={self.room}>"

    def begin(self) -> None:
        """Everybody is free again. Who was claimed before is claimed first where somebody must be."""
        records = self._records
        self._previous, records.victims = records.victims, {}
        self.room = records.device.free + records.device.leaving

    def end(self) -> None:
        """Who waits for an expert that is not claimed any more gets the lease."""
        records = self._records
        for name in self._previous:
            expert = records.experts[name]
            if name not in records.victims and expert.device.presence == "present" and expert.needed:
                records.grant(expert)

    def send_away(self, expert: ExpertRecord, reason: MoveReason) -> None:
        """It goes though nobody needs its place, once it has no leases."""
        self._records.victims[expert.name] = None
        self.room += expert.device.charged
        self.evict([expert], None, reason)

    def choose_replaced(self, expert: ExpertRecord, forced: bool) -> ExpertRecord | None:
        """Evictions the expert whose place this one takes in an engine that is full by count."""
        candidates = [
            other
            for other in expert.engine.residents.values()
            if self._may_leave(other, forced) and not other.pinned and not other.stuck
        ]
        if not candidates:
            return None
        rank = self._records.policy.rank
        victim = min(
            candidates, key=lambda other: (bool(other.leases), rank(other, "device"), other.last_used)
        )
        self._records.victims[victim.name] = expert.name
        return victim

    def make_room(self, rival: str | None, needs: int, *, forced: bool) -> list[ExpertRecord]:
        """Claims victims until ``needs`` bytes are free or will be, and sets those bytes aside. ``forced``:
        also such as have just come."""
        self.room -= needs
        victims: list[ExpertRecord] = []
        while self.room < 0:
            victim = self._victim(forced)
            if victim is None:
                break
            self._choose(victim, rival, victims)
        return victims

    def make_room_of_idle(
        self, rival: str, needs: int, worth_it: Callable[[ExpertRecord], bool]
    ) -> list[ExpertRecord] | None:
        """The same with such alone as nobody uses and that are worth it; None, and nobody is claimed, where
        they are not enough."""
        before = self.room
        self.room -= needs
        victims: list[ExpertRecord] = []
        while self.room < 0:
            victim = self._records.idle.first(lambda other: self._may_leave(other, forced=False))
            if victim is None or victim.engine.single_resident or not worth_it(victim):
                for claimed in victims:
                    del self._records.victims[claimed.name]
                self.room = before
                return None
            self._choose(victim, rival, victims)
        return victims

    def evict(self, victims: Iterable[ExpertRecord], rival: str | None, reason: MoveReason) -> None:
        """Those without leases, one move per engine at a time. An engine of one is stopped."""
        records = self._records
        for victim in victims:
            engine = victim.engine
            if victim.leases or engine.occupied or victim.device.presence != "present":
                continue
            if engine.single_resident:
                self.stop(engine, rival, reason)
                continue
            engine.busy = victim.name
            records.device.leave(victim.device)
            records.rank(victim)
            records.victims.pop(victim.name, None)
            age_s, size = records.age_s(victim.loaded_at), victim.device.charged
            records.actions.append(
                Move(victim.name, "device", below(victim), reason, rival, age_s=age_s, gives_back=size)
            )

    def stop(self, engine: EngineRecord, rival: str | None, reason: MoveReason) -> None:
        """And with it all that is resident leaves."""
        records = self._records
        engine.stopping = True
        for other in engine.residents.values():
            records.device.leave(other.device)
            records.rank(other)
            records.victims.pop(other.name, None)
        ages_s = {other.name: records.age_s(other.loaded_at) for other in engine.residents.values()}
        records.actions.append(StopEngine(engine.family, reason, rival, ages_s))

    def _choose(self, victim: ExpertRecord, rival: str | None, victims: list[ExpertRecord]) -> None:
        self._records.victims[victim.name] = rival
        self.room += victim.device.charged
        victims.append(victim)

    def _victim(self, forced: bool) -> ExpertRecord | None:
        """Idle ones first; of those with leases such as were claimed before, so that a choice is kept."""

        def fits(expert: ExpertRecord) -> bool:
            return self._may_leave(expert, forced)

        records = self._records
        kept = [records.experts[name] for name in self._previous if records.experts[name] in records.used]
        return records.idle.first(fits) or next(filter(fits, kept), None) or records.used.first(fits)

    def _may_leave(self, expert: ExpertRecord, forced: bool) -> bool:
        if expert.device.presence != "present" or expert.name in self._records.victims:
            return False
        stays_until = expert.loaded_at + self._residency_s(expert)
        if forced or self._records.now >= stays_until:
            return True
        self._records.wake(stays_until)
        return False

    def _residency_s(self, expert: ExpertRecord) -> float:
        if self._min_residency_s is not None:
            return self._min_residency_s
        worth = WORTH_IN_USE if expert.leases else WORTH_IDLE
        return min(worth * expert.load_seconds, self._max_wait_s)


def below(expert: ExpertRecord) -> Tier:
    """The highest tier under the device that holds the expert."""
    return "host" if expert.host.presence == "present" else "disk"
