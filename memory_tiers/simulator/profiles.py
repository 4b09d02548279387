"""Machine profiles for the simulator: capacities and bandwidths, each figure with its source."""

from pydantic import ByteSize, Field

from experts.spec import Strict


class Profile(Strict):
    """Describes one node. ``links`` of ``link_bytes_per_s`` each lead from the host to the device; an expert
    is spread over them. ``published_links``: how many of them the published comparison counts."""

    name: str
    device: ByteSize
    """Memory on the device."""
    host: ByteSize
    """Host memory that could hold experts."""
    link_bytes_per_s: ByteSize = Field(gt=0)
    links: int = Field(default=1, ge=1)
    published_links: int | None = Field(default=None, ge=1)
    disk_bytes_per_s: ByteSize = Field(gt=0)
    memory_bytes_per_s: ByteSize = Field(gt=0)
    """Bandwidth of the device's own memory: a token takes as long as reading the expert's weights once."""
    start_s: float = Field(default=0.0, ge=0)
    """Seconds to start an engine's process, without the time to read weights."""
    sources: dict[str, str] = Field(default={})
    """Where each figure comes from, by its name."""

    def switch_seconds(self, expert_bytes: int, links: int | None = None) -> float:
        """Computes the seconds from the host to the device over ``links``, by default as many as were
        published."""
        return expert_bytes / (self.link_bytes_per_s * (links or self.published_links or self.links))


SN40L = "arXiv 2405.07518 (SN40L)"
DATASHEET = "NVIDIA's data sheet"
ASSUMED_DISK = "assumed: eight NVMe drives of 3 GB/s; the comparison has no disk"
ONE_DRIVE = "assumed: one NVMe drive of 3 GB/s"
PROCESS_START = (
    "vLLM's sleep mode measurements: 47 s for a cold start of 30 B on an A100, less some 2 s of reading"
)

BUILT_IN = {
    profile.name: profile
    for profile in (
        Profile(
            name="sn40l",
            device=ByteSize(8 * 64 * 10**9),
            host=ByteSize(12 * 10**12),
            link_bytes_per_s=ByteSize(125 * 10**9),
            links=8,
            disk_bytes_per_s=ByteSize(24 * 10**9),
            memory_bytes_per_s=ByteSize(16 * 10**12),
            sources={
                "device": f"{SN40L}: 8 sockets of 64 GB HBM",
                "host": f"{SN40L}: 8 sockets of up to 1.5 TB DDR",
                "link_bytes_per_s": f"{SN40L}: over 1 TB/s from DDR to HBM in a node of 8 sockets",
                "links": f"{SN40L}: 8 sockets, each with its own DDR",
                "disk_bytes_per_s": ASSUMED_DISK,
                "memory_bytes_per_s": "assumed: 2 TB/s a socket, as an A100's, so that links decide alone",
            },
        ),
        Profile(
            name="dgx-a100",
            device=ByteSize(8 * 80 * 10**9),
            host=ByteSize(2 * 10**12),
            link_bytes_per_s=ByteSize(32 * 10**9),
            links=8,
            published_links=1,
            disk_bytes_per_s=ByteSize(24 * 10**9),
            memory_bytes_per_s=ByteSize(16 * 10**12),
            start_s=45.0,
            sources={
                "device": f"{DATASHEET}: 8 GPUs of 80 GB",
                "host": f"{DATASHEET}: 2 TB",
                "link_bytes_per_s": "PCIe 4.0 with 16 lanes, without protocol overhead",
                "links": f"{DATASHEET}: a PCIe link for each GPU",
                "published_links": f"{SN40L}: 31 times slower than 1 TB/s is one link",
                "disk_bytes_per_s": ASSUMED_DISK,
                "memory_bytes_per_s": f"{DATASHEET}: 2 TB/s a GPU",
                "start_s": PROCESS_START,
            },
        ),
        Profile(
            name="dgx-h100",
            device=ByteSize(8 * 80 * 10**9),
            host=ByteSize(2 * 10**12),
            link_bytes_per_s=ByteSize(64 * 10**9),
            links=8,
            published_links=1,
            disk_bytes_per_s=ByteSize(24 * 10**9),
            memory_bytes_per_s=ByteSize(26_800 * 10**9),
            start_s=45.0,
            sources={
                "device": f"{DATASHEET}: 8 GPUs of 80 GB",
                "host": f"{DATASHEET}: 2 TB",
                "link_bytes_per_s": "PCIe 5.0 with 16 lanes, without protocol overhead",
                "links": f"{DATASHEET}: a PCIe link for each GPU",
                "published_links": f"{SN40L}: 15.6 times slower than 1 TB/s is one link",
                "disk_bytes_per_s": ASSUMED_DISK,
                "memory_bytes_per_s": f"{DATASHEET}: 3.35 TB/s a GPU",
                "start_s": PROCESS_START,
            },
        ),
        Profile(
            name="a100",
            device=ByteSize(80 * 10**9),
            host=ByteSize(256 * 10**9),
            link_bytes_per_s=ByteSize(32 * 10**9),
            disk_bytes_per_s=ByteSize(3 * 10**9),
            memory_bytes_per_s=ByteSize(2_039 * 10**9),
            start_s=45.0,
            sources={
                "device": f"{DATASHEET}: 80 GB",
                "host": "assumed: an eighth of 2 TB",
                "link_bytes_per_s": "PCIe 4.0 with 16 lanes, without protocol overhead",
                "disk_bytes_per_s": ONE_DRIVE,
                "memory_bytes_per_s": f"{DATASHEET}: 2.039 TB/s (SXM)",
                "start_s": PROCESS_START,
            },
        ),
        Profile(
            name="h100",
            device=ByteSize(80 * 10**9),
            host=ByteSize(256 * 10**9),
            link_bytes_per_s=ByteSize(64 * 10**9),
            disk_bytes_per_s=ByteSize(3 * 10**9),
            memory_bytes_per_s=ByteSize(3_350 * 10**9),
            start_s=45.0,
            sources={
                "device": f"{DATASHEET}: 80 GB",
                "host": "assumed: an eighth of 2 TB",
                "link_bytes_per_s": "PCIe 5.0 with 16 lanes, without protocol overhead",
                "disk_bytes_per_s": ONE_DRIVE,
                "memory_bytes_per_s": f"{DATASHEET}: 3.35 TB/s (SXM)",
                "start_s": PROCESS_START,
            },
        ),
        Profile(
            name="h200",
            device=ByteSize(141 * 10**9),
            host=ByteSize(256 * 10**9),
            link_bytes_per_s=ByteSize(64 * 10**9),
            disk_bytes_per_s=ByteSize(3 * 10**9),
            memory_bytes_per_s=ByteSize(4_800 * 10**9),
            start_s=45.0,
            sources={
                "device": f"{DATASHEET}: 141 GB",
                "host": "assumed: an eighth of 2 TB",
                "link_bytes_per_s": "PCIe 5.0 with 16 lanes, without protocol overhead",
                "disk_bytes_per_s": ONE_DRIVE,
                "memory_bytes_per_s": f"{DATASHEET}: 4.8 TB/s",
                "start_s": PROCESS_START,
            },
        ),
        Profile(
            name="l40s",
            device=ByteSize(48 * 10**9),
            host=ByteSize(256 * 10**9),
            link_bytes_per_s=ByteSize(32 * 10**9),
            disk_bytes_per_s=ByteSize(3 * 10**9),
            memory_bytes_per_s=ByteSize(864 * 10**9),
            start_s=45.0,
            sources={
                "device": f"{DATASHEET}: 48 GB",
                "host": "assumed",
                "link_bytes_per_s": "PCIe 4.0 with 16 lanes, without protocol overhead",
                "disk_bytes_per_s": ONE_DRIVE,
                "memory_bytes_per_s": f"{DATASHEET}: 864 GB/s",
                "start_s": PROCESS_START,
            },
        ),
        Profile(
            name="rtx-4090",
            device=ByteSize(24 * 10**9),
            host=ByteSize(128 * 10**9),
            link_bytes_per_s=ByteSize(32 * 10**9),
            disk_bytes_per_s=ByteSize(3 * 10**9),
            memory_bytes_per_s=ByteSize(1_008 * 10**9),
            start_s=45.0,
            sources={
                "device": f"{DATASHEET}: 24 GB",
                "host": "assumed",
                "link_bytes_per_s": "PCIe 4.0 with 16 lanes, without protocol overhead",
                "disk_bytes_per_s": ONE_DRIVE,
                "memory_bytes_per_s": f"{DATASHEET}: 1,008 GB/s",
                "start_s": PROCESS_START,
            },
        ),
    )
}
THIS_MACHINE = "this-machine"
"""The name of the profile that is measured."""
