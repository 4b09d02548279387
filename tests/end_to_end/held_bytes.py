"""What the gateway says that the tiers take, and what its processes really hold.

On CPU the weights of an expert are in its engine's own memory, or they are a file in shared memory that
the engine has mapped, and that the gateway may have deleted meanwhile. A file that is there and mapped is in
memory once, and charged to both tiers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memory_tiers.driver.host_store import PREFIX
from tests.end_to_end.conftest import GatewayProcess

SHARED = Path("/dev/shm")
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+)\s+(.*)")
_ON_DEVICE = re.compile(r'coe_expert_tier\{expert="([^"]+)",tier="device"\}')


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes at one moment. ``device_claimed`` and ``host_claimed`` are of /metrics, the rest of the kernel.
    ``own``: memory of the engine core that no file backs, KV pool and all. ``mapped``: images that it has
    mapped. ``shared``: files of the host tier. ``residents``: experts on the device; ``images``: of experts,
    on the host."""

    residents: int
    images: int
    device_claimed: int
    host_claimed: int
    own: int
    mapped: int
    shared: int

    def growth_claimed(self, since: "Held") -> int:
        return self.device_claimed - since.device_claimed

    def growth(self, since: "Held") -> int:
        """Of what the engine core keeps in memory."""
        return self.own + self.mapped - since.own - since.mapped


def held(gateway: GatewayProcess) -> Held:
    """Of a gateway with one engine that nobody uses now."""
    series = gateway.series()
    (core,) = [each.pid for each in gateway.descendants() if "EngineCore" in " ".join(each.cmdline())]
    return Held(
        residents=len(on_device(series)),
        images=sum(1 for file in _host_files(gateway.process.pid) if file.name == "image-0"),
        device_claimed=round(series['coe_tier_used_bytes{tier="device"}']),
        host_claimed=round(series['coe_tier_used_bytes{tier="host"}']),
        own=_own(core),
        mapped=_mapped(core),
        shared=sum(file.stat().st_blocks * 512 for file in _host_files(gateway.process.pid)),
    )


def on_device(series: Mapping[str, float]) -> set[str]:
    """Experts, by /metrics."""
    found = {name: _ON_DEVICE.match(name) for name, value in series.items() if value == 1}
    return {match[1] for match in found.values() if match}


def shared_memory_of(gateway: GatewayProcess) -> set[Path]:
    """What its processes have there now: the host tier, and what they have mapped by name."""
    pids = [gateway.process.pid, *(each.pid for each in gateway.descendants())]
    mapped = (
        _MAPPING.match(line) for pid in pids for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
    )
    files = {Path(found[4]) for found in mapped if found and found[4].startswith(f"{SHARED}/")}
    return {*_host_folders(gateway.process.pid), *(file for file in files if file.exists())}


def _own(pid: int) -> int:
    """Read and written, also where a private mapping of a file was written to."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = re.search(r"^Anonymous:\s+(\d+) kB", rollup, re.MULTILINE)
    assert kilobytes is not None
    return int(kilobytes[1]) * 1024


def _mapped(pid: int) -> int:
    """Each image in full, once: a file's pages stay in memory as long as it is mapped, touched or not."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        found = _MAPPING.match(line)
        if found and f"/{PREFIX}" in found[4]:
            sizes[found[3]] = sizes.get(found[3], 0) + int(found[2], 16) - int(found[1], 16)
    return sum(sizes.values())


def _host_folders(gateway: int) -> list[Path]:
    return [*SHARED.glob(f"{PREFIX}{gateway}-*")]


def _host_files(gateway: int) -> list[Path]:
    """Not those that are links to the disk."""
    files = (file for folder in _host_folders(gateway) for file in folder.rglob("*"))
    return [file for file in files if file.is_file() and not file.is_symlink()]
