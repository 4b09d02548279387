"""Sees that vLLM's kernels find the system's libraries that they link to, and installs what is missing.

    python scripts/system_libraries.py       # scripts/install runs it

vLLM itself only warns when its kernels do not load, and its engine then ends for another reason. Debian's
package is installed where that may be done (root, apt-get); else the line to type is printed and the exit
status is 1. Uses the standard library alone.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

LOAD = """\
import torch
from vllm.platforms import current_platform
current_platform.import_kernels()  # those for this machine; what does not load is a warning
if current_platform.is_cpu():
    torch.ops._C.init_cpu_memory_env
"""

DEBIAN_PACKAGES = {
    "libgomp.so.1": "libgomp1",
    "libnuma.so.1": "libnuma1",
    "libstdc++.so.6": "libstdc++6",
    "libz.so.1": "zlib1g",
}

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def main() -> str | None:
    """Returns None when the kernels load, else what ``sys.exit`` is to say."""
    return provide(
        [sys.executable, "-c", LOAD], may_install=os.geteuid() == 0 and bool(shutil.which("apt-get"))
    )


def provide(load: Sequence[str], *, may_install: bool, run: Run | None = None) -> str | None:
    """Runs ``load``, and again after each package that it lacked. Returns what is wrong, or None."""
    run = run or _run
    installed: set[str] = set()
    while (loaded := run(load)).returncode != 0:
        library = missing_library(loaded.stderr)
        package = DEBIAN_PACKAGES.get(library or "")
        if package is None or package in installed:
            return f"install: vLLM's kernels do not load; the loader says:\n{loader_message(loaded.stderr)}"
        if not may_install:
            return f"install: vLLM needs {library}; type: sudo apt-get install {package}"
        print(f"install: vLLM needs {library}: installing Debian's package {package}", file=sys.stderr)
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            done = run(["apt-get", *command])
            if done.returncode != 0:
                return f"install: apt-get {' '.join(command)} failed:\n{done.stderr.strip()}"
        installed.add(package)
    return None


def missing_library(output: str) -> str | None:
    """The first library that the loader did not find."""
    found = re.search(r"([^\s'\"(]+\.so[.\d]*): cannot open shared object file", output)
    return found and found[1]


def loader_message(output: str) -> str:
    """The first line that tells of a failed import, else all of it."""
    lines = output.strip().splitlines()
    return next(
        (line.strip() for line in lines if "ImportError" in line or "OSError" in line), output.strip()
    )


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "WARNING", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


if __name__ == "__main__":
    sys.exit(main())
