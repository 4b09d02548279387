import os
import subprocess
import sys

from experts.inside_vllm.parent_death_signal import ENGINE_VARIABLE

PROGRAM = """
import ctypes
from experts.inside_vllm.plugin import register
register()
signal = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(signal))  # PR_GET_PDEATHSIG
import torch
print(signal.value, torch.cpu._is_amx_tile_supported.__name__)
"""


def registered_in(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_vllm_that_is_not_ours_stays_as_it_is() -> None:
    assert registered_in({}) == "0 _is_amx_tile_supported"


def test_an_engines_process_dies_with_its_parent_and_uses_no_amx() -> None:
    assert registered_in({ENGINE_VARIABLE: "1"}) == "9 <lambda>"
