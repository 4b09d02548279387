"""The configuration of a node among others."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from cluster.placement.rules import PlacementRules
from experts.spec import Strict

SHORTEST = 16
"""Fewest characters of a secret."""
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens for other nodes."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Reads ``host:port``, an IPv6 address in brackets. Raises ValueError."""
        found = _ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found["port"]) < 65536:
            raise ValueError(f"{text!r} is no address of a node; write it like 10.0.0.2:8100")
        return cls(found["host"].strip("[]"), int(found["port"]))

    @property
    def loopback(self) -> bool:
        """Returns whether nothing outside this machine is there."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


PeerWeightsRule = Literal["auto", "always", "never"]


class ClusterConfig(Strict):
    """Other nodes that serve the same experts: any of them takes any request, and asks the one where its
    expert is (docs/scale.md)."""

    host: str = "127.0.0.1"
    """Address to listen on for other nodes."""
    port: int = Field(default=8100, ge=0, le=65535)
    """Port to listen on for other nodes; 0 takes a free one."""
    secret: SecretStr
    """Secret that all nodes share, at least 16 characters, as ``openssl rand -hex 32`` makes it. Whoever has
    it may give orders to nodes, and read what they send each other."""
    peers: tuple[str, ...] = ()
    """Addresses at which the nodes listen for each other, as ``10.0.0.2:8100``. The node's own may be among
    them, so that all nodes can have the same list."""
    address: str | None = None
    """Address at which other nodes reach this one. This node tells it to its peers, which then follow a node
    that is not in their lists. Absent means that their lists name this node."""
    tls: bool | None = None
    """Whether nodes speak TLS to each other, with a certificate that they derive from ``secret``. Absent
    means wherever an address is not one of this machine alone."""
    weights_from_nodes: PeerWeightsRule = "auto"
    """Whether weights are read from other nodes' host memory: ``auto`` where that is quicker than the disk,
    ``always`` where any has them, for instance where all disks are one over the network, or ``never``."""
    gateway: bool = False
    """Whether this is a gateway alone: it has no engines and holds no experts. The nodes of ``peers`` compute
    for its clients, keep what these store, and tell it what their experts are."""
    drained: Path | None = None
    """File that is made once this node was drained and has given away what it holds: whoever starts nodes
    then starts this one no more."""
    placement: PlacementRules | None = PlacementRules()
    """How experts are placed over the nodes: the node that has run longest decides, and the others follow.
    Null leaves them where requests bring them; on all nodes or on none."""
    event_log: Path | None = None
    """File to which a node that decides writes events and decisions, one file for each term, to be replayed
    with ``coe cluster replay``."""

    @field_validator("secret")
    @classmethod
    def _is_long(cls, secret: SecretStr) -> SecretStr:
        if len(secret.get_secret_value()) < SHORTEST:
            raise ValueError(f"has fewer than {SHORTEST} characters; make one with: openssl rand -hex 32")
        return secret

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        return None if address is None else str(Address.parse(address))

    @field_validator("peers")
    @classmethod
    def _are_addresses(cls, peers: tuple[str, ...]) -> tuple[str, ...]:
        for peer in peers:
            Address.parse(peer)
        return tuple(dict.fromkeys(peers))

    def encrypted(self, address: Address) -> bool:
        """Says whether TLS is spoken with the node that listens at ``address``."""
        return not address.loopback if self.tls is None else self.tls
