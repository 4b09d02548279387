"""scripts/system_libraries.py: vLLM's kernels load, or it is said which package they lack."""

import sys
from collections.abc import Sequence
from subprocess import CompletedProcess

from scripts.system_libraries import LOAD, missing_library, provide

ABSENT = [sys.executable, "-c", "import ctypes; ctypes.CDLL('libnuma-absent.so.1')"]
# On a Debian without libnuma1, vLLM 0.32.
WARNING = (
    "WARNING 11-26 19:14:12 [cpu.py:644] Failed to import from vllm._C: ImportError('libnuma.so.1: cannot "
    "open shared object file: No such file or directory')\n"
    "AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'\n"
)


class Machine:
    """A system where ``load`` needs libraries, and whose apt-get can install packages."""

    def __init__(self, *needs: str, brings: Sequence[str] = ()) -> None:
        self._needs = list(needs)
        self._brings = set(brings)
        self.ran: list[str] = []

    def __call__(self, command: Sequence[str]) -> "CompletedProcess[str]":
        self.ran.append(" ".join(command))
        if "install" in command and command[-1] in self._brings:
            self._needs.pop(0)
        if command[0] == "load" and self._needs:
            return CompletedProcess(command, 1, "", WARNING.replace("libnuma.so.1", self._needs[0]))
        return CompletedProcess(command, 0, "", "")


def test_the_installed_build_loads() -> None:
    assert provide([sys.executable, "-c", LOAD], may_install=False) is None


def test_the_loader_names_what_it_lacks() -> None:
    message = provide(ABSENT, may_install=True)
    assert message is not None
    assert "libnuma-absent.so.1: cannot open shared object file" in message
    assert "Traceback" not in message


def test_vllms_warning_names_it_too() -> None:
    assert missing_library(WARNING) == "libnuma.so.1"


def test_what_may_not_be_installed_is_a_line_to_type() -> None:
    machine = Machine("libnuma.so.1")
    message = provide(["load"], may_install=False, run=machine)
    assert message == "install: vLLM needs libnuma.so.1; type: sudo apt-get install libnuma1"
    assert machine.ran == ["load"]


def test_each_missing_library_is_installed() -> None:
    machine = Machine("libnuma.so.1", "libgomp.so.1", brings=["libnuma1", "libgomp1"])
    assert provide(["load"], may_install=True, run=machine) is None
    assert [line.split()[-1] for line in machine.ran if "install" in line] == ["libnuma1", "libgomp1"]
    assert machine.ran[-1] == "load"


def test_a_package_that_does_not_help_is_not_installed_twice() -> None:
    machine = Machine("libnuma.so.1")
    message = provide(["load"], may_install=True, run=machine)
    assert message is not None
    assert "libnuma.so.1: cannot open shared object file" in message
    assert machine.ran.count("load") == 2
