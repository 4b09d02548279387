"""Begins an expert's way to the device: a load into its engine, or its engine's start with it."""

from memory_tiers.actions import Move, MoveReason, StartEngine
from memory_tiers.state.decision.evictions import below
from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.records import Records


class Loads:
    """Begins loads for which there is room and a free engine."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __repr__(self) -> str:
        return f"<Loads {[engine.busy for engine in self._records.engines.values() if engine.busy]}>"

    def begin(self, expert: ExpertRecord, reason: MoveReason, replaced: ExpertRecord | None = None) -> None:
        """Loads the expert in the place of ``replaced``, or beside the other residents. Does nothing where
        its engine would have to start while another starts."""
        records, engine, source = self._records, expert.engine, below(expert)
        if engine.state == "ready":
            engine.waking, engine.asleep = engine.asleep, False
            replaces = replaced.name if replaced else None
            image = self._reserve_image(expert)
            age_s = records.age_s(replaced.loaded_at) if replaced else None
            records.actions.append(
                Move(expert.name, source, "device", reason, replaces=replaces, image=image, age_s=age_s)
            )
        elif any(other.state == "starting" for other in records.engines.values()):
            return
        else:
            if not engine.holds:
                records.device.hold(engine.held, engine.parts)
            engine.state, engine.starts, engine.holds = "starting", engine.starts + 1, True
            records.actions.append(StartEngine(engine.family, expert.name, source))
        expert.device.bytes = expert.device_bytes
        expert.load_began = records.now
        records.device.arrive(expert.device, instead_of=replaced.device if replaced else None)
        engine.busy = expert.name
        engine.residents[expert.name] = expert
        if reason == "prefetch":
            records.prefetched[expert.name, "device"] = expert
        if replaced:
            records.rank(replaced)
            records.victims.pop(replaced.name, None)

    def _reserve_image(self, expert: ExpertRecord) -> bool:
        """Reserves room on the host for an image and says whether there is one, or room for one. A checkpoint
        and the image made of it are there at the same time until the load ends."""
        host = self._records.host
        if expert.host.presence != "present" or not expert.engine.images or expert.read_elsewhere:
            return False
        if expert.host.image:
            return True
        if host.free < expert.device_bytes:
            return False
        host.recharge(expert.host, expert.host.charged + expert.device_bytes)
        return True


def needed_bytes(expert: ExpertRecord) -> int:
    """Device bytes that the expert's arrival takes, with what its engine takes for itself if it must
    start."""
    return expert.device_bytes + (0 if expert.engine.holds else expert.engine.held)
