"""The simulator's rival that behaves like llama-swap: first come, first served, with a swap when it must."""

from collections import OrderedDict, deque

from memory_tiers.actions import Action, Grant, Move
from memory_tiers.events import Event, LeaseReleased, MoveFinished, TicketAsked


class FifoSwapper:
    """Serves tickets strictly in the order in which they came. If the next ticket's expert is on the device
    it is granted at once; else the idle expert that was used least recently makes room, and all wait for the
    load. The lists of residents and host copies begin with the least recently used."""

    def __init__(self, device_fits: int, host_fits: int) -> None:
        """``device_fits``, ``host_fits``: how many experts each tier holds; the host may hold none."""
        self._device_fits = device_fits
        self._host_fits = host_fits
        self._residents: OrderedDict[str, int] = OrderedDict()
        """Residents, with their numbers of leases."""
        self._on_host: OrderedDict[str, None] = OrderedDict()
        self._queue: deque[tuple[int, str]] = deque()
        self._leases: dict[int, str] = {}
        self._loading: str | None = None

    def __repr__(self) -> str:
        return (
            f"<FifoSwapper [residents: {', '.join(self._residents)}; loading: {self._loading}; "
            f"waiting: {len(self._queue)}, running: {len(self._leases)}]>"
        )

    @property
    def deadline(self) -> float | None:
        """Time alone changes nothing here."""
        return None

    def handle(self, event: Event) -> list[Action]:
        """Takes in the event and returns what is to be done."""
        match event:
            case TicketAsked(ticket, expert):
                self._queue.append((ticket, expert))
            case LeaseReleased(ticket):
                self._residents[self._leases.pop(ticket)] -= 1
            case MoveFinished(Move(expert, _, "host")):
                self._on_host[expert] = None
                return [Move(expert, "host", "device", "ticket")]
            case MoveFinished(Move(expert)):
                self._residents[expert] = 0
                self._loading = None
        return self._serve()

    def _serve(self) -> list[Action]:
        actions: list[Action] = []
        while self._queue and self._loading is None:
            ticket, expert = self._queue[0]
            if expert in self._residents:
                self._queue.popleft()
                self._residents[expert] += 1
                self._residents.move_to_end(expert)
                self._leases[ticket] = expert
                actions.append(Grant(ticket))
            elif self._makes_room():
                self._loading = expert
                actions.append(self._load(expert))
            else:
                break
        return actions

    def _makes_room(self) -> bool:
        if len(self._residents) < self._device_fits:
            return True
        victim = next((name for name, leases in self._residents.items() if not leases), None)
        if victim is None:
            return False
        del self._residents[victim]
        return True

    def _load(self, expert: str) -> Move:
        if expert in self._on_host:
            self._on_host.move_to_end(expert)
            return Move(expert, "host", "device", "ticket")
        if not self._host_fits:
            return Move(expert, "disk", "device", "ticket")
        if len(self._on_host) >= self._host_fits:
            self._on_host.popitem(last=False)
        return Move(expert, "disk", "host", "ticket")
