"""A second account of the tiers, kept from events and actions alone."""

from collections.abc import Collection

from memory_tiers.actions import Action, Forget, Grant, Move, Reject, StartEngine, StopEngine
from memory_tiers.events import (
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    EngineStopped,
    Event,
    ExpertChanged,
    HostFilled,
    LeaseReleased,
    MoveFailed,
    MoveFinished,
    Revised,
    TicketAsked,
    TicketCancelled,
)
from memory_tiers.members import Family, Member
from memory_tiers.state.outcomes import HOST_FULL_S
from memory_tiers.state.records.expert_record import PRIORITIES
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import Tier, TiersConfig
from tests.memory_tiers.traces.model_expert import ModelEngine, ModelExpert


class Model:
    """Follows a TierState; ``take`` and ``compare`` after each of its events."""

    def __init__(self, config: TiersConfig, members: list[Member], families: list[Family]) -> None:
        self.host_budget = int(config.host)
        self.gpu_budgets = {**config.device_parts}
        self.engines = {family.name: ModelEngine(family, holds=True) for family in families}
        self.experts: dict[str, ModelExpert] = {}
        self.tickets: dict[int, ModelExpert] = {}
        self.at = 0.0
        self.whole_host: int | None = None
        self.full_until = 0.0
        self.events = 0
        self.kept: set[str] = set()  # those that a request has kept for a time of its own
        for member in members:
            self.add(member)

    def add(self, member: Member) -> None:
        self.experts[member.name] = ModelExpert(member, self.engines[member.family])

    def residents(self, engine: ModelEngine) -> list[ModelExpert]:
        return [
            each
            for each in self.experts.values()
            if each.engine is engine and each.device.presence != "absent"
        ]

    def held_on(self, gpu: int, among: Collection[str] | None = None) -> int:
        """The bytes that engines hold of a GPU; ``among``: those of these families alone."""
        there = [
            engine
            for name, engine in self.engines.items()
            if engine.holds and gpu in engine.parts and (among is None or name in among)
        ]
        return sum(engine.whole(engine.family.held) // len(engine.parts) for engine in there)

    def used_on(self, gpu: int) -> int:
        experts = [expert for expert in self.experts.values() if gpu in expert.engine.parts]
        return self.held_on(gpu) + sum(each.device.bytes // len(each.engine.parts) for each in experts)

    @property
    def on_host(self) -> int:
        return sum(expert.host.bytes for expert in self.experts.values())

    @property
    def over_budget(self) -> bool:
        return any(self.used_on(gpu) > budget for gpu, budget in self.gpu_budgets.items())

    def take_event(self, event: Event) -> None:
        self.at = event.at
        self.events += 1
        if self.whole_host is not None and self.at >= self.full_until:
            self.host_budget, self.whole_host = self.whole_host, None
        match event:
            case TicketAsked(ticket, name, at, _, priority, _, keep_s) if name in self.experts:
                self.kept |= {name} if keep_s is not None else set()
                self._ask(ticket, self.experts[name], at, PRIORITIES.index(priority))
            case TicketCancelled(ticket):
                del self.tickets.pop(ticket).waiting[ticket]
            case LeaseReleased(ticket):
                self.tickets.pop(ticket).leases.remove(ticket)
            case MoveFinished(move, size, _, image):
                self._moved(move, size, image)
            case MoveFailed(move):
                self._failed(move)
            case HostFilled(move, size):
                least = self.on_host - 1
                self.experts[move.expert].host.go()
                self.whole_host = self.host_budget if self.whole_host is None else self.whole_host
                self.host_budget = max(0, min(size, least, self.host_budget))
                self.full_until = self.at + HOST_FULL_S
            case EngineStarted(family, name, size):
                self.engines[family].runs = True
                if self.engines[family].family.resident_limit == 1:
                    self.experts[name].load_seconds = self.at - self.experts[name].load_began
                self._loaded(self.experts[name], size)
            case EngineStartFailed(family, name):
                self.engines[family].busy = False
                self.experts[name].device.go()
            case EngineStopped(family):
                self._stopped(self.engines[family], event.asleep)
            case EngineDied(family):
                self.engines[family].runs = False
                for expert in self.residents(self.engines[family]):
                    if expert.device.presence == "present":
                        expert.device.go()
            case ExpertChanged(member):
                self.experts[member.name].member = member
            case Revised():
                self._revise(event)

    def take_action(self, action: Action) -> None:
        match action:
            case Grant(ticket):
                expert = self.tickets[ticket]
                assert expert.device.presence == "present", f"{action} for what is not there"
                del expert.waiting[ticket]
                expert.leases.add(ticket)
            case Reject(ticket):
                if ticket in self.tickets:
                    del self.tickets.pop(ticket).waiting[ticket]
            case StartEngine(family, name):
                self.engines[family].holds = True
                self._arrive(self.experts[name])
            case StopEngine(family):
                self.engines[family].runs, self.engines[family].busy = False, True
                for expert in self.residents(self.engines[family]):
                    expert.device.presence = "leaving"
            case Move():
                self._begin(action)
            case Forget(name):
                expert = self.experts.pop(name)
                assert (expert.device.presence, expert.host.presence) == ("absent", "absent"), name
                assert not expert.leases, name
                assert not expert.waiting, name

    def _ask(self, ticket: int, expert: ModelExpert, at: float, priority: int) -> None:
        if not expert.waiting:
            expert.need, expert.priority = self.events, priority
        expert.priority = min(expert.priority, priority)
        expert.waiting[ticket] = at, priority
        self.tickets[ticket] = expert

    def _begin(self, move: Move) -> None:
        expert = self.experts[move.expert]
        if move.target == "device":
            if move.image and not expert.image:
                expert.host.bytes = expert.host.full = expert.host.bytes + expert.estimate
                self._within("host", move)
            self._arrive(expert, self.experts[move.replaces] if move.replaces else None)
        elif move.source == "device":
            expert.device.presence = "leaving"
            expert.engine.busy = True
        elif move.target == "host":
            expert.host.be("arriving", expert.member.weights_bytes)
            self._within("host", move)
        else:
            expert.host.presence = "leaving"

    def _arrive(self, expert: ModelExpert, replaced: ModelExpert | None = None) -> None:
        """Both ends are charged until the move ends; the bytes that two experts take in turn are so once."""
        expert.load_began = self.at
        expert.engine.busy = True
        expert.device.be("arriving", expert.estimate)
        if replaced is not None:
            replaced.device.presence = "leaving"
            replaced.device.bytes -= min(replaced.device.bytes, expert.device.bytes)
        self._within("device", expert)

    def _within(self, tier: Tier, what: object) -> None:
        """Measurements may exceed a budget, and budgets shrink; nothing may arrive that does not fit."""
        if tier == "host":
            assert self.on_host <= self.host_budget, f"{what!r} makes {self.on_host} on the host"
            return
        assert isinstance(what, ModelExpert)
        for gpu in what.engine.parts:
            assert self.used_on(gpu) <= self.gpu_budgets[gpu], f"{what!r} makes {self.used_on(gpu)} on {gpu}"

    def _moved(self, move: Move, size: int, image: int) -> None:
        expert = self.experts[move.expert]
        if move.target == "device":
            expert.load_seconds = self.at - expert.load_began
            if expert.engine.runs:
                self._loaded(expert, size)
            else:  # it was done just before the engine died
                expert.engine.busy = False
                expert.device.go()
            if move.replaces is not None:
                self.experts[move.replaces].device.go()
            if move.image and image:
                expert.image = True
                expert.host.be("present", image)
            elif move.image and expert.image:
                expert.image = False
                expert.host.go()
            elif move.image:
                expert.host.be("present", expert.member.weights_bytes)
        elif move.source == "device":
            expert.engine.busy = False
            expert.device.go()
        elif move.target == "host":
            expert.host.be("present", size)
        else:
            expert.image = False
            expert.host.go()

    def _loaded(self, expert: ModelExpert, size: int) -> None:
        expert.engine.busy = False
        expert.measured, expert.loaded_at = expert.engine.whole(size), self.at
        expert.device.be("present", expert.measured)
        if expert.member.weights_bytes:
            expert.engine.scale = size / expert.member.weights_bytes

    def _failed(self, move: Move) -> None:
        """Everything is where it was, apart from what died with the engine."""
        expert = self.experts[move.expert]
        alive = expert.engine.runs
        if move.target == "device":
            expert.engine.busy = False
            expert.device.go()
            if move.image and not expert.image:
                expert.host.be("present", expert.member.weights_bytes)
            if move.replaces is not None:
                replaced = self.experts[move.replaces].device
                replaced.stay() if alive else replaced.go()
        elif move.source == "device":
            expert.engine.busy = False
            expert.device.stay() if alive else expert.device.go()
        elif move.target == "host":
            expert.host.go()
        else:
            expert.host.stay()

    def _stopped(self, engine: ModelEngine, asleep: bool) -> None:
        engine.busy = False
        for expert in self.residents(engine):
            expert.device.go()
        if asleep:
            engine.runs = True
            return
        engine.holds = False
        if all(expert.engine is not engine for expert in self.experts.values()):
            del self.engines[engine.family.name]

    def _revise(self, event: Revised) -> None:
        revision = event.revision
        for family in revision.families:
            self.engines[family.name] = ModelEngine(family, holds=False)
        for member in revision.added:
            self.add(member)
        for member in revision.changed:
            self.experts[member.name].member = member
        for name in revision.removed:
            removed = self.experts[name].member
            plain = Member(name, removed.family, removed.weights_bytes, ttl_s=removed.ttl_s)
            self.experts[name].member, self.experts[name].removed = plain, True
        if revision.device is not None:
            self.gpu_budgets = {0: revision.device}
        if revision.host is not None:
            self.host_budget, self.whole_host = revision.host, None

    def compare(self, state: TierState) -> None:
        """Both accounts agree: presence, bytes, images, tickets, leases and what is configured."""
        records = state._records
        assert self.experts.keys() == records.experts.keys()
        for name, expert in self.experts.items():
            record, member = records.experts[name], expert.member
            ours = (
                (expert.device.presence, expert.device.bytes),
                (expert.host.presence, expert.host.bytes, expert.image),
                (member.pinned, member.default, member.ttl_s),
                (set(expert.waiting), expert.leases),
            )
            recorded = (
                (record.device.presence, record.device.charged),
                (record.host.presence, record.host.charged, record.host.image),
                (record.pinned, record.default, record.ttl_s),
                (set(record.waiting), set(record.leases)),
            )
            assert ours == recorded, f"{name}: {ours} by events and actions, {recorded} by the state"
        used = {gpu: self.used_on(gpu) for gpu in self.gpu_budgets}, self.on_host
        theirs = {gpu: part.used for gpu, part in records.device.parts.items()}, records.host.used
        assert used == theirs, f"{used} bytes, not as {records!r} has"
