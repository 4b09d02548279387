"""Chooses which experts leave the device to make room there, and has them leave."""

from collections.abc import Callable, Iterable, Set

from memory_tiers.actions import Move, MoveReason, StopEngine
from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.records.ledger import Parts, whole
from memory_tiers.state.records.records import Records
from memory_tiers.tiers import Tier, TiersConfig

RESIDENCY_IN_USE, RESIDENCY_IDLE = 10.0, 1.0
"""The default minimum residency in load times. An expert that is used all the time pays at most a tenth of it
for moving weights; no ticket waits long for the place of an unused one."""


class Evictions:
    """Chooses victims within one decision. ``room``: bytes that will be free on each part of the device once
    all victims have left, less what was set aside for the experts served so far.

    *Minimum residency.* An expert is no victim before it has been on the device for some time, except of one
    that has been waited for longer than ``max_wait_s``: without it two experts that are asked for in turn
    would only be carried in and out.
    """

    def __init__(self, records: Records, demand: Demand, config: TiersConfig) -> None:
        self._records = records
        self._demand = demand
        self._max_wait_s = config.max_wait_s
        self._min_residency_s = config.min_residency_s
        self._previous: dict[str, str | None] = {}
        self.room: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Evictions room={self.room}>"

    def begin(self) -> None:
        """Begins a decision without victims. Victims of the decision before are preferred if one is
        needed."""
        records = self._records
        self._previous, records.victims = records.victims, {}
        self.room = {number: part.free + part.leaving for number, part in records.device.parts.items()}

    def end(self) -> None:
        """Grants the tickets of experts that are no victims any more."""
        records = self._records
        for name in self._previous:
            expert = records.experts[name]
            if name not in records.victims and expert.device.presence == "present" and expert.needed:
                self._demand.grant(expert)

    def send_away(self, expert: ExpertRecord, reason: MoveReason) -> None:
        """Has the expert leave, once it has no leases, though no other needs its place."""
        self._records.victims[expert.name] = None
        self._add(expert.device.charged, expert.device.parts)
        self.evict([expert], None, reason)

    def choose_replaced(self, expert: ExpertRecord, forced: bool) -> ExpertRecord | None:
        """Chooses the resident whose place the expert takes in an engine that is full by count; None where no
        resident may leave."""
        candidates = [
            other
            for other in expert.engine.residents.values()
            if self._may_leave(other, forced) and not other.pinned and not other.stuck
        ]
        if not candidates:
            return None
        victim = min(candidates, key=self._order_of_replacement)
        self._records.victims[victim.name] = expert.name
        return victim

    def short(self, parts: Iterable[int]) -> set[int]:
        """Tells which of ``parts`` have no room for what was set aside there."""
        return {number for number in parts if self.room[number] < 0}

    def has_room(self, needs: int, parts: Parts) -> bool:
        """Whether ``needs`` bytes are free on ``parts``, or will be, beside what was set aside."""
        share = whole(needs, parts) // len(parts)
        return all(self.room[number] >= share for number in parts)

    def shrink(self) -> list[ExpertRecord]:
        """Chooses victims until no part of the device is over its budget."""
        return self._choose_for(None, tuple(self.room), forced=True)

    def make_room(self, rival: ExpertRecord, needs: int, *, forced: bool) -> list[ExpertRecord]:
        """Chooses victims until ``needs`` bytes are free or will be where ``rival`` goes, and sets those
        bytes aside. ``forced``: also experts within their minimum residency."""
        self._add(-whole(needs, rival.device.parts), rival.device.parts)
        return self._choose_for(rival.name, rival.device.parts, forced)

    def make_room_of_idle(
        self, rival: ExpertRecord, needs: int, worth_it: Callable[[ExpertRecord], bool]
    ) -> list[ExpertRecord] | None:
        """Makes room like ``make_room``, but only of experts without leases that are ``worth_it``. None, with
        no victim chosen, where they are not enough."""
        before, parts = {**self.room}, rival.device.parts
        self._add(-whole(needs, parts), parts)
        victims: list[ExpertRecord] = []
        while short := self.short(parts):
            victim = self._first_idle_on(short)
            if victim is None or victim.engine.single_resident or not worth_it(victim):
                for chosen in victims:
                    del self._records.victims[chosen.name]
                self.room = before
                return None
            self._choose(victim, rival.name, victims)
        return victims

    def evict(self, victims: Iterable[ExpertRecord], rival: str | None, reason: MoveReason) -> None:
        """Moves the victims without leases down, one move per engine at a time. An engine of a single
        resident is stopped instead."""
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

    def stop(
        self, engine: EngineRecord, rival: str | None, reason: MoveReason, *, sleep: bool = False
    ) -> None:
        """Stops the engine, or has it sleep; all its residents leave."""
        records = self._records
        engine.stopping = True
        for other in engine.residents.values():
            records.device.leave(other.device)
            records.rank(other)
            records.victims.pop(other.name, None)
        ages_s = {other.name: records.age_s(other.loaded_at) for other in engine.residents.values()}
        records.actions.append(StopEngine(engine.family, reason, rival, ages_s, sleep))

    def _order_of_replacement(self, resident: ExpertRecord) -> tuple[bool, bool, float, float]:
        """Orders residents like ``_victim``: those without leases, then victims of the decision before."""
        rank = self._records.rankings.policy.rank(resident, "device")
        chosen = resident.name in self._previous
        return bool(resident.leases), bool(resident.leases) and not chosen, rank, resident.last_used

    def _choose_for(self, rival: str | None, parts: Parts, forced: bool) -> list[ExpertRecord]:
        victims: list[ExpertRecord] = []
        while short := self.short(parts):
            victim = self._victim(forced, short)
            if victim is None:
                break
            self._choose(victim, rival, victims)
        return victims

    def _choose(self, victim: ExpertRecord, rival: str | None, victims: list[ExpertRecord]) -> None:
        self._records.victims[victim.name] = rival
        self._add(victim.device.charged, victim.device.parts)
        victims.append(victim)

    def _add(self, size: int, parts: Parts) -> None:
        for number in parts:
            self.room[number] += size // len(parts)

    def _first_idle_on(self, parts: Set[int]) -> ExpertRecord | None:
        def fits(expert: ExpertRecord) -> bool:
            return not parts.isdisjoint(expert.device.parts) and self._may_leave(expert, forced=False)

        return self._records.rankings.idle.first(fits)

    def _victim(self, forced: bool, parts: Set[int]) -> ExpertRecord | None:
        """Finds an expert on ``parts`` without leases, else a victim of the decision before, so that a choice
        is kept, else any with leases."""

        def fits(expert: ExpertRecord) -> bool:
            return not parts.isdisjoint(expert.device.parts) and self._may_leave(expert, forced)

        records, rankings = self._records, self._records.rankings
        kept = [records.experts[name] for name in self._previous if records.experts[name] in rankings.used]
        return rankings.idle.first(fits) or next(filter(fits, kept), None) or rankings.used.first(fits)

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
        load_times = RESIDENCY_IN_USE if expert.leases else RESIDENCY_IDLE
        return min(load_times * expert.load_seconds, self._max_wait_s)


def below(expert: ExpertRecord) -> Tier:
    """The highest tier under the device that holds the expert."""
    return "host" if expert.host.presence == "present" else "disk"
