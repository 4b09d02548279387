"""The folder of one machine, which outlives the raylet that it was made under."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_RAYLET = "raylet.json"


@dataclass(frozen=True, slots=True)
class Raylet:
    """Ray's process on a machine. ``host``: its address; ``began``: as of ``began``."""

    host: str
    pid: int
    began: str

    @property
    def runs(self) -> bool:
        """Says whether it still runs. Asked on its own host alone."""
        return began(self.pid) == self.began


def own_folder(root: Path, id: str, raylet: Raylet) -> Path:
    """Returns the folder in ``root`` of the machine that Ray calls ``id``. A raylet that was started anew has
    another id: it takes over what an earlier one on its host has left, with the node that may still run."""
    own = root / id[:16]
    if not own.exists():
        root.mkdir(parents=True, exist_ok=True)
        for left in _left(root, raylet.host):
            with contextlib.suppress(OSError):  # another raylet that has just started took it
                left.rename(own)
                break
    own.mkdir(exist_ok=True)
    new = own / f"{_RAYLET}.new"
    new.write_text(json.dumps(asdict(raylet)))
    new.replace(own / _RAYLET)
    return own


def began(pid: int) -> str | None:
    """Returns when a process began, in ticks since the machine did; None: there is none, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def raylet_of_this_process(host: str) -> Raylet:
    """Returns the raylet that started this process, which is one of Ray's workers."""
    pid = os.getppid()
    return Raylet(host, pid, began(pid) or "")


def _left(root: Path, host: str) -> list[Path]:
    """Lists the folders of this host whose raylet has ended, the one that was used last in front."""
    found = []
    for file in root.glob(f"*/{_RAYLET}"):
        try:
            raylet = Raylet(**json.loads(file.read_text()))
            used = file.stat().st_mtime_ns
        except (OSError, ValueError, TypeError):
            continue
        if raylet.host == host and not raylet.runs:
            found.append((used, file.parent))
    return [folder for _, folder in sorted(found, reverse=True)]
