"""The folder of an engine's run: its socket, its working folder and its temporary files."""

import os
import shutil
import tempfile
from pathlib import Path


def private_folder() -> Path:
    """Makes one of mode 0700, named after this process, and removes those of gateways that were killed."""
    runtime = _runtime_folder()
    for folder in runtime.glob("coe-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"coe-{os.getpid()}-", dir=runtime))


def _runtime_folder() -> Path:
    """Chooses the folder for sockets, whose paths may not be longer than 107 bytes."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"))
    return runtime if len(str(runtime)) < 60 and os.access(runtime, os.W_OK) else Path("/tmp")
