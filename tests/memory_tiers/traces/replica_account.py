"""An account of experts on several engines of a family, kept from events and actions alone."""

from dataclasses import dataclass, field

from memory_tiers.actions import Action, Forget, Grant, Move, StartEngine, StopEngine
from memory_tiers.events import (
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    EngineStopped,
    Event,
    HostFilled,
    MoveFailed,
    MoveFinished,
    TicketAsked,
)
from memory_tiers.members import Family, Member
from memory_tiers.replicas import SEPARATOR
from memory_tiers.state.state_machine import TierState


@dataclass
class ReplicaAccount:
    """``on_engine``: what is on each engine or on its way there; ``leaving``: what leaves; ``host``: experts
    that have a copy there, or are to have one. All with the expert's name, not the replica's."""

    families: list[Family]
    members: dict[str, Member]
    on_engine: dict[str, set[str]] = field(default_factory=dict)
    arriving: dict[str, str] = field(default_factory=dict)
    host: set[str] = field(default_factory=set)
    asked: dict[int, str] = field(default_factory=dict)
    grants: dict[str, int] = field(default_factory=dict)

    def engine_of(self, name: str) -> str:
        expert, number = self.split(name)
        serving = [family.name for family in self.families if family.serves == self.members[expert].family]
        return serving[number]

    def split(self, name: str) -> tuple[str, int]:
        expert, _, number = name.partition(SEPARATOR)
        return expert, int(number or 1) - 1

    def take(self, event: Event, actions: list[Action], state: TierState) -> None:
        self._note(event)
        for action in actions:
            self._check(action)
        records = state._records
        there = {
            engine: {expert.expert for expert in record.residents.values()}
            for engine, record in records.engines.items()
            if record.residents
        }
        assert there == {engine: names for engine, names in self.on_engine.items() if names}
        copies = {expert.expert for expert in records.experts.values() if expert.host.presence != "absent"}
        assert copies == self.host

    def _note(self, event: Event) -> None:
        match event:
            case TicketAsked(ticket, expert):
                self.asked[ticket] = expert
            case MoveFinished(move) | MoveFailed(move) | HostFilled(move):
                failed = not isinstance(event, MoveFinished)
                self._moved(move, failed=failed, event=event)
            case EngineStarted(engine):
                self.arriving.pop(engine)
            case EngineStartFailed(engine):
                self.on_engine[engine].discard(self.arriving.pop(engine))
            case EngineStopped(engine):
                self.on_engine.pop(engine, None)
            case EngineDied(engine):
                self.on_engine[engine] &= {self.arriving.get(engine, "")} | self.leaving(engine)

    def leaving(self, engine: str) -> set[str]:
        return {name for name in self.on_engine.get(engine, ()) if (engine, name) in self.moving_down}

    moving_down: set[tuple[str, str]] = field(default_factory=set)

    def _moved(self, move: Move, *, failed: bool, event: Event) -> None:
        expert, _ = self.split(move.expert)
        if move.target == "device":
            engine = self.engine_of(move.expert)
            self.arriving.pop(engine)
            replaced = self.split(move.replaces)[0] if move.replaces else None
            dead = engine not in self.running  # a load may have been done just before that
            if failed or dead:
                self.on_engine[engine].discard(expert)
            if replaced is not None:
                self.moving_down.discard((engine, replaced))
                if not failed or dead:
                    self.on_engine[engine].discard(replaced)
            if move.image and not failed and isinstance(event, MoveFinished) and not event.image_bytes:
                if expert in self.images:
                    self.host.discard(expert)
                    self.images.discard(expert)
            elif move.image and not failed:
                self.images.add(expert)
        elif move.source == "device":
            engine = self.engine_of(move.expert)
            self.moving_down.discard((engine, expert))
            if not failed or engine not in self.running:
                self.on_engine[engine].discard(expert)
        elif move.target == "host" and failed:
            self.host.discard(expert)
        elif move.target == "disk" and not failed:
            self.host.discard(expert)
            self.images.discard(expert)

    running: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)

    def _check(self, action: Action) -> None:
        match action:
            case Grant(ticket, engine):
                expert = self.asked[ticket]
                serves = {family.name: family.serves for family in self.families}[engine]
                assert self.members[expert].family == serves, action
                assert expert in self.on_engine[engine], f"{action} of {expert}, which is not there"
                assert self.arriving.get(engine) != expert, action
                self.grants[engine] = self.grants.get(engine, 0) + 1
            case StartEngine(engine, name):
                self._arrive(engine, self.split(name)[0], action)
            case Move(name, _, "device"):
                engine = self.engine_of(name)
                if action.replaces is not None:
                    self.moving_down.add((engine, self.split(action.replaces)[0]))
                self._arrive(engine, self.split(name)[0], action)
            case Move(name, "device"):
                self.moving_down.add((self.engine_of(name), self.split(name)[0]))
            case Move(name, "disk", "host"):
                assert self.split(name)[0] not in self.host, f"{action}: it is there"
                self.host.add(self.split(name)[0])
            case Move(name, "host", "disk"):
                assert self.split(name)[0] not in self.arriving.values(), f"{action}, which a load reads"
            case StopEngine() | Forget():
                pass

    def _arrive(self, engine: str, expert: str, action: Action) -> None:
        loading = {name for other, name in self.arriving.items() if other in self.running}
        assert expert not in loading, f"{action}: another engine loads it"
        self.arriving[engine] = expert
        self.on_engine.setdefault(engine, set()).add(expert)
