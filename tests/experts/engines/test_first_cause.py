"""Why an engine ended, by logs of vLLM 0.32 that real failures left in ``recorded``.

Left out of them: what is logged as INFO, and of each traceback the frames between its first and its last.
"""

import sys
from pathlib import Path

import pytest

from experts.engines.first_cause import first_cause
from experts.engines.process import EngineProcess

RECORDED = Path(__file__).parent / "recorded"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (
            "no_libnuma",
            "Failed to import from vllm._C: ImportError('libnuma.so.1: cannot open shared object file: No "
            "such file or directory') (scripts/install says which package is missing); then AttributeError: "
            "'_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'",
        ),
        (
            "worker_reads_half_a_checkpoint",
            "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: incomplete "
            "metadata, file not fully covered",
        ),
        (
            "no_memory",
            "RuntimeError: unable to mmap 538090408 bytes from file </opt/coe/.models/general/model."
            "safetensors>: Cannot allocate memory (12)",
        ),
        ("core_killed", "its EngineCore was killed by SIGKILL, as the kernel does when memory runs out"),
        ("socket_taken", "OSError: [Errno 98] Address already in use"),
        ("unknown_argument", "api_server.py: error: unrecognized arguments: --no-such-argument"),
        (
            "broken_tokenizer",
            "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: "
            "line 2 column 1 (char 2)",
        ),
    ],
)
def test_the_first_cause_is_told(log: str, cause: str) -> None:
    assert first_cause(recorded(log), by_itself=True) == cause


@pytest.mark.parametrize(
    ("log", "begins"),
    [
        (
            "no_memory_for_the_cache",
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_mem",
        ),
        (
            "too_long_a_context",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig Value error, "
            "User-specified max_model_len (1000000) is greater than the derived max_model_len (max_pos",
        ),
    ],
)
def test_a_long_message_is_told_on_one_line(log: str, begins: str) -> None:
    cause = first_cause(recorded(log), by_itself=True)
    assert cause.startswith(begins)
    assert "\n" not in cause
    assert len(cause) <= 500


def test_an_engine_that_was_stopped_has_no_cause() -> None:
    assert first_cause(recorded("served"), by_itself=True) == ""


def test_what_a_killed_process_survived_before_is_not_its_cause() -> None:
    survived = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: of one request\n'
    assert first_cause(survived, by_itself=False) == ""
    assert first_cause(survived, by_itself=True) == "ValueError: of one request"


def test_a_refused_instruction_is_the_cause() -> None:
    log = "Fatal Python error: Illegal instruction\n\nCurrent thread 0x00007f (most recent call first):\n"
    assert first_cause(log, by_itself=False) == "Fatal Python error: Illegal instruction"


def test_kernels_that_load_in_spite_of_the_warning_are_no_cause() -> None:
    warning = (
        "(EngineCore pid=7) WARNING 11-26 19:20:31 [cpu.py:653] Failed to import from vllm._C_AVX512: "
        "ImportError('dynamic module does not define module export function (PyInit__C_AVX512)')\n"
    )
    assert first_cause(warning, by_itself=True) == ""


async def test_an_exception_comes_with_those_it_came_from(tmp_path: Path) -> None:
    program = "try:\n 1 / 0\nexcept ZeroDivisionError as error:\n raise ValueError('a zero') from error"
    log = tmp_path / "e.log"
    process = await EngineProcess.launch([sys.executable, "-c", program], {}, log)
    assert await process.ended() == (
        "the engine's process ended with exit code 1: "
        f"ZeroDivisionError: division by zero; then ValueError: a zero; more in {log}"
    )


async def test_a_message_of_paragraphs_does_not_hide_what_follows(tmp_path: Path) -> None:
    program = "try:\n raise KeyError('x')\nexcept KeyError:\n raise ValueError('one\\n\\ntwo')"
    process = await EngineProcess.launch([sys.executable, "-c", program], {}, tmp_path / "e.log")
    assert "exit code 1: KeyError: 'x'; then ValueError: one; more in" in await process.ended()


def recorded(log: str) -> str:
    return (RECORDED / f"{log}.log").read_text(encoding="utf-8")
