"""Folders that look like /proc and the cgroups of a machine."""

from pathlib import Path

GB = 10**9
V2_MOUNT = "41 31 0:38 {top} /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw"
V1_MOUNT = "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory"
OTHER_MOUNTS = (
    "36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    "22 1 254:1 / / rw,relatime master:1 - ext4 /dev/vda rw,discard\n"
)


class FakeMachine:
    def __init__(self, root: Path, available: int = 64 * GB) -> None:
        self.root = root
        self.write(
            "proc/meminfo", f"MemTotal: 99 kB\nMemAvailable:   {available // 1024} kB\nHugePages_Total: 0"
        )

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")

    def in_version_2(self, cgroup: str, top: str = "/") -> None:
        self.write("proc/self/cgroup", f"0::{cgroup}")
        self.write("proc/self/mountinfo", OTHER_MOUNTS + V2_MOUNT.format(top=top))

    def in_version_1(self, cgroup: str, top: str = "/") -> None:
        self.write("proc/self/cgroup", f"3:cpuset:/\n4:cpu,memory:{cgroup}\n0::/")
        self.write("proc/self/mountinfo", OTHER_MOUNTS + V1_MOUNT.format(top=top))

    def version_2(
        self,
        folder: str,
        limit: int | str,
        used: int,
        inactive: int = 0,
        active: int = 0,
        high: int | str = "max",
    ) -> None:
        at = f"sys/fs/cgroup/{folder}"
        self.write(f"{at}/memory.max", str(limit))
        self.write(f"{at}/memory.high", str(high))
        self.write(f"{at}/memory.current", str(used))
        self.write(f"{at}/memory.stat", f"anon 7\ninactive_file {inactive}\nactive_file {active}")

    def version_1(self, folder: str, limit: int, used: int, inactive: int = 0, active: int = 0) -> None:
        at = f"sys/fs/cgroup/memory/{folder}"
        self.write(f"{at}/memory.limit_in_bytes", str(limit))
        self.write(f"{at}/memory.usage_in_bytes", str(used))
        self.write(
            f"{at}/memory.stat",
            f"inactive_file 3\ntotal_inactive_file {inactive}\ntotal_active_file {active}",
        )
