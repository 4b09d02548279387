"""What became of moves, starts and stops."""

from memory_tiers.events import Move
from memory_tiers.state.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.prefetch import Prefetch
from memory_tiers.state.records import Books

AGAIN_S = 10.0
"""After which a removed expert is given back again that could not be."""
ATTEMPTS = 2
"""How often in a row an engine's start may fail, or an expert's load kill its engine, before those who wait
are rejected. The next ticket tries again; an engine is tried again after a pause without one."""


class Endings:
    """Takes note of what the driver carried out, or could not."""

    def __init__(self, books: Books, prefetch: Prefetch) -> None:
        self._books = books
        self._prefetch = prefetch

    def __repr__(self) -> str:
        return f"<Endings of {self._books.device!r}>"

    def moved(self, move: Move, size: int, image_bytes: int) -> None:
        books, expert = self._books, self._books.experts[move.expert]
        if move.target == "device":
            self._measured(expert, size)
            if move.reason == "prefetch":
                self._prefetch.ended("device", expert.load_seconds)
            self._loaded(expert, move.replaces, size)
            self._image_left(move, image_bytes)
        elif move.source == "device":
            expert.engine.busy = None
            books.leave_device(expert)
        elif move.target == "host":
            if move.reason == "prefetch":
                self._prefetch.ended("host", books.now - expert.read_began)
            books.staged(expert, size)
        else:
            books.leave_host(expert)

    def move_failed(self, move: Move, reason: str) -> None:
        books, expert = self._books, self._books.experts[move.expert]
        if move.target == "device":
            self._load_failed(expert, move, reason)
        elif move.source == "device":
            self._eviction_failed(expert)
        elif move.target == "host":
            self._read_failed(expert, reason)
        else:
            books.host.stay(expert.host)
            books.rank(expert)
            self._stays_for_now(expert)
            beneficiary = books.experts.get(move.beneficiary or "")
            if beneficiary is not None:
                message = f"no room on the host for expert {beneficiary.name}: {reason}"
                books.reject(beneficiary, "load_failed", message)

    def started(self, engine: EngineRecord, expert: ExpertRecord, size: int) -> None:
        engine.state, engine.detail, engine.failures = "ready", "", 0
        if engine.of_one:  # to have another one means a start
            self._measured(expert, size)
        self._loaded(expert, None, size)
        for other in engine.members.values():
            if other.pinned:
                self._books.want(other)
            elif not (other.default or other.restored or other.ordered == "device"):
                self._books.unwant(other)  # it was to start the engine, and somebody else has

    def start_failed(self, engine: EngineRecord, expert: ExpertRecord, reason: str) -> None:
        engine.state, engine.detail, engine.busy = "dead", reason, None
        engine.failures += 1
        self._books.leave_device(expert)
        expert.failure = reason
        if engine.failures < ATTEMPTS:
            self._start_with_another(engine)
        else:
            for other in [*engine.in_line]:
                message = f"the engine of family {engine.family} does not start: {reason}"
                self._books.reject(other, "engine_failed", message)

    def stopped(self, engine: EngineRecord) -> None:
        for expert in [*engine.residents.values()]:
            self._books.leave_device(expert)
        if engine.holds:
            self._books.device.hold(-engine.held)
        engine.state, engine.stopping, engine.holds = "stopped", False, False
        if not engine.members:
            del self._books.engines[engine.family]

    def died(self, engine: EngineRecord, reason: str) -> None:
        """What a running move is about is settled when the move ends. Leases stay until they are released."""
        assert engine.state == "ready", engine
        engine.state, engine.detail = "dead", reason
        held = [expert for expert in engine.residents.values() if expert.device.presence == "present"]
        for expert in held:
            self._books.leave_device(expert)
        if not self._books.closing:
            for expert in sorted(held, key=lambda expert: expert.last_used, reverse=True):
                if not expert.removed:
                    self._books.want(expert)
                    expert.restored = True
            self.want_engine(engine)

    def want_engine(self, engine: EngineRecord) -> None:
        """The engine runs and holds what is pinned; with no pin any expert will do to start it. No engine of
        one is stopped, or stops another, for nobody: then it starts when somebody asks."""
        if not any(expert.restored for expert in engine.in_line):
            self._want_first(engine)
        for expert in engine.members.values():
            if expert.pinned:
                self._books.want(expert)

    def _want_first(self, engine: EngineRecord) -> None:
        first = engine.first
        if first is not None:
            self._books.want(first)
            of_one = any(other.of_one for other in self._books.engines.values())
            first.restored = of_one and not (first.pinned or first.default)

    def _start_with_another(self, engine: EngineRecord) -> None:
        """Whom it was to start with may be the reason why it does not run."""
        first = engine.first
        if first is not None and not first.failure and all(other.failure for other in engine.in_line):
            self._want_first(engine)

    def _measured(self, expert: ExpertRecord, size: int) -> None:
        """What a load took. Who came before the first was measured is compared by it from now on."""
        engine, unknown = expert.engine, expert.engine.seconds_per_byte is None
        expert.load_seconds = self._books.now - expert.load_began
        engine.took(expert.load_seconds, size)
        if unknown and engine.seconds_per_byte is not None:
            for other in engine.residents.values():
                other.seconds_per_byte = engine.seconds_per_byte
                self._books.rank(other)

    def _image_left(self, move: Move, size: int) -> None:
        """What the host holds now that a load has ended: an image of ``size``, or the checkpoint, if it still
        was the checkpoint that the load found there."""
        expert = self._books.experts[move.expert]
        if not move.image:
            return
        expert.engine.images = size > 0
        if size > 0:
            self._books.host.recharge(expert.host, size)
            expert.image = True
        elif expert.image:
            self._books.leave_host(expert)
        else:
            self._books.host.recharge(expert.host, expert.weights_bytes)

    def _loaded(self, expert: ExpertRecord, replaces: str | None, size: int) -> None:
        books, engine = self._books, expert.engine
        engine.busy = None
        if replaces is not None:
            books.leave_device(books.experts[replaces])
        if engine.state != "ready":
            books.leave_device(expert)
            return
        expert.fatal_loads = 0
        expert.seconds_per_byte = engine.seconds_per_byte or 1.0
        books.loaded(expert)
        if expert.weights_bytes:  # a base among its adapters has none, and says nothing of theirs
            engine.scale = size / expert.weights_bytes
        books.device.settle(expert.device, size)
        if expert.ordered == "device" or (expert.ordered is not None and not expert.removed):
            books.obeyed(expert)
        self._stays(expert)
        if expert.cancelled:
            expert.cancelled = False
            if not expert.leases:
                books.order(expert, "host", "operator")

    def _stays(self, expert: ExpertRecord) -> None:
        """It is on the device and nobody has claimed it."""
        self._books.rank(expert)
        if not self._books.closing:
            self._books.grant(expert)

    def _load_failed(self, expert: ExpertRecord, move: Move, reason: str) -> None:
        books, engine = self._books, expert.engine
        engine.busy = None
        expert.cancelled = False
        books.leave_device(expert)
        if move.image and not expert.image:
            books.host.recharge(expert.host, expert.weights_bytes)
        replaced = books.experts[move.replaces] if move.replaces is not None else None
        if engine.state == "ready":
            if replaced is not None:
                books.device.stay(replaced.device)
                self._stays(replaced)
            self._given_up(expert, f"expert {expert.name} could not be loaded: {reason}")
            if move.source == "host":  # the next try reads the disk, where it may have been mended
                books.drop(expert, "unusable")
            return
        if replaced is not None:
            books.leave_device(replaced)
        expert.fatal_loads += 1
        if expert.fatal_loads >= ATTEMPTS:
            expert.fatal_loads = 0
            self._given_up(expert, f"loading expert {expert.name} killed its engine: {reason}")

    def _read_failed(self, expert: ExpertRecord, reason: str) -> None:
        books = self._books
        aborted, books.staging, books.aborting = books.aborting, None, False
        books.leave_host(expert)
        if aborted:  # who has come for it since then has it read again
            return
        message = f"expert {expert.name} could not be read: {reason}"
        to_start = expert.wanted and expert.engine.state != "ready"
        if expert.engine.state != "ready":
            expert.engine.detail = message
        self._given_up(expert, message)
        if to_start:
            self._start_with_another(expert.engine)

    def _given_up(self, expert: ExpertRecord, message: str) -> None:
        if not expert.removed:
            self._books.obeyed(expert)
        self._books.reject(expert, "load_failed", message)

    def _stays_for_now(self, expert: ExpertRecord) -> None:
        """It could not be given back: an order is given up, and a removal tried again."""
        if expert.removed:
            expert.stays_until = self._books.now + AGAIN_S
        else:
            self._books.obeyed(expert)

    def _eviction_failed(self, expert: ExpertRecord) -> None:
        expert.engine.busy = None
        if expert.engine.state == "ready":
            self._books.device.stay(expert.device)
            expert.stuck = True
            self._stays_for_now(expert)
            self._stays(expert)
        else:
            self._books.leave_device(expert)
