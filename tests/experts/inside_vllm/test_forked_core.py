"""How the API server of an engine on the CPU starts its core."""

import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm.v1.engine import utils

    from experts.inside_vllm import forked_core

PROGRAM = """
import asyncio, ctypes, signal
from experts.inside_vllm.forked_core import _Context

def core():
    death = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(death))  # PR_GET_PDEATHSIG
    print(signal.set_wakeup_fd(-1), death.value, "json" in server, flush=True)

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print, "the server was told to end")
    process = _Context().Process(target=core)
    process.start()
    process.join()

server = {"json"}
asyncio.run(main())
"""


def test_a_core_has_what_its_server_has_takes_its_own_signals_and_dies_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "-1 9 True\n"


@pytest.mark.parametrize("multimodal", [False, True])
def test_the_core_of_a_model_for_text_is_forked_and_others_are_as_vllm_has_it(
    monkeypatch: pytest.MonkeyPatch, multimodal: bool
) -> None:
    seen: list[object] = []

    def start(self: object, **_: Any) -> None:
        seen.append(utils.get_mp_context)

    monkeypatch.setattr(utils, "CoreEngineProcManager", utils.CoreEngineProcManager)
    monkeypatch.setattr(utils.CoreEngineProcManager, "__init__", start)
    vllms = utils.get_mp_context
    forked_core.install()
    config = SimpleNamespace(model_config=SimpleNamespace(is_multimodal_model=multimodal))
    utils.CoreEngineProcManager(vllm_config=config, local_engine_count=1)
    assert seen == [vllms if multimodal else forked_core._Context]
    assert utils.get_mp_context is vllms
