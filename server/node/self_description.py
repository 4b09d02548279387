"""Describes this node, in its heartbeat and when it chooses among nodes."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster.election import Seniority
from memory_tiers.status import ExpertStatus, TierStatus
from memory_tiers.tiers import Tier
from server.access.figures import Figures
from server.peers.peers import Peers
from server.peers.wire import PROTOCOL, ExpertPlace, NodeSnapshot
from server.services import NodeServices

FRESH_S = 0.02
"""Seconds for which a description is as good as a new one."""
NOTHING = TierStatus("device", 0, 0, 0)
"""The memory for experts of a gateway that has no engines."""
_GUESS: dict[Tier, float] = {"device": 0.0, "host": 0.2e-9, "disk": 1e-9}
"""Seconds for each byte to the device while none was measured; and a tenth of a second beside."""


class SelfDescription:
    """Describes this node. Numbers grow from one description to the next."""

    def __init__(self, services: NodeServices, own: Seniority, url: str) -> None:
        """``url``: where this node's clients ask it."""
        self._services = services
        self._own = own
        self._url = url
        self._numbers = itertools.count(1)
        self.used: Callable[[], Mapping[str, Figures]] = dict
        """Returns what this node has let in for keys with limits."""
        self._latest: NodeSnapshot | None = None
        self._made_at = 0.0

    def now(self) -> NodeSnapshot:
        """Returns how this node is now, or was ``FRESH_S`` ago."""
        at = time.monotonic()
        if self._latest is None or at - self._made_at >= FRESH_S:
            self._latest, self._made_at = self._made(), at
        return self._latest

    def _made(self) -> NodeSnapshot:
        services, tiers, peers = self._services, self._services.tiers, self._services.peers
        experts = tiers.status()
        ahead = sum(self._seconds(each) for each in experts if each.waiting and each.tier != "device")
        device, host, _ = tiers.usage()
        if not services.settings.computes:
            experts, device, host = (), NOTHING, NOTHING
        return NodeSnapshot(
            id=self._own.id,
            run=self._own.run,
            number=next(self._numbers),
            draining=services.draining or (peers is not None and peers.leaving),
            running=tiers.counts().leases,
            version=services.version,
            url=self._url,
            device_bytes=device.capacity_bytes or 0,
            device_free=max(0, (device.capacity_bytes or 0) - device.used_bytes),
            host_bytes=host.capacity_bytes or 0,
            experts=dict(self._places(experts, ahead)),
            **({} if peers is None else _among(peers)),
            host_rate=tiers.bytes_per_s("host", "device"),
            peer_rate=None if peers is None else peers.weights_rate(),
            disk_rate=tiers.bytes_per_s("disk", "host"),
            used=self.used(),
            protocol=PROTOCOL,
            gateway=not services.settings.computes,
        )

    def _places(self, experts: tuple[ExpertStatus, ...], ahead: float) -> Iterator[tuple[str, ExpertPlace]]:
        for each in experts:
            seconds = self._seconds(each)
            if each.tier != "device" and not each.waiting:
                seconds += ahead
            yield (
                each.expert,
                ExpertPlace(
                    tier=each.tier,
                    seconds=seconds,
                    waiting=each.waiting,
                    bytes=each.weights_bytes,
                    gives=each.host == "present" and not each.image,
                ),
            )

    def _seconds(self, expert: ExpertStatus) -> float:
        """Estimates the seconds until the expert could be on the device if nothing came before."""
        measured = self._services.tiers.seconds_to_device(expert.expert)
        if measured is not None or expert.tier == "device":
            return measured or 0.0
        return 0.1 + _GUESS[expert.tier] * expert.weights_bytes

    def __repr__(self) -> str:
        return f"<SelfDescription {self._own.id} {self._latest!r}>"


def _among(peers: Peers) -> dict[str, Any]:
    """Returns what this node says of the others."""
    followed = peers.followed.election
    others = [peer.snapshot for peer in peers.up if peer.snapshot is not None]
    stays = [said for said in others if not said.draining and not said.gateway]
    hears = min(((said.run, said.id) for said in stays), default=None)
    return {
        "term": followed.term,
        "placer": followed.placer,
        "hears": hears,
        "demand": dict(peers.demand.rates()),
    }
