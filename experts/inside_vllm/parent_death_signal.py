"""Has an engine's process killed when its parent ends, so that none outlives a killed gateway.

``python -m experts.inside_vllm.parent_death_signal PARENT COMMAND...`` becomes COMMAND and is killed when
PARENT dies. The kernel sends the signal when the parent *thread* that started the process ends (prctl(2),
PR_SET_PDEATHSIG), so engines are started from the thread that runs the gateway's event loop.
"""

import ctypes
import os
import signal
import sys

ENGINE_VARIABLE = "COE_ENGINE_PROCESS"
"""A variable of every process of an engine: the process id of its API server."""
_PR_SET_PDEATHSIG = 1


def set_parent_death_signal(parent: int | None = None) -> None:
    """Has this process killed when its parent ends, at once where it is not the process ``parent`` any more.

    The setting survives execve and is not inherited by children.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before the call: then the process that adopted this one is its parent.
    orphaned = os.getppid() == 1 if parent is None else os.getppid() != parent
    if orphaned:
        os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str]) -> None:
    set_parent_death_signal(int(arguments[0]))
    os.environ[ENGINE_VARIABLE] = str(os.getpid())  # execve keeps the process id
    os.execvp(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
