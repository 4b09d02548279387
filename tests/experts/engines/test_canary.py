"""What is asked of an engine, which answers pass, and in which type an engine is started."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from experts.engines.canary import check, question
from experts.engines.computing_type import computes_bfloat16, refused_instruction, types_to_try
from experts.errors import CanaryFailed
from experts.spec import Canary, FamilyConfig
from experts.vllm.environment import environment as engine_environment

KNOWN = Canary(prompt=(1, 2), tokens=(7, 8, 9, 7), logprobs=(-0.5, -1.0, -0.25, -2.0))
BACKGROUND = {40: -9.0, 41: -9.5}


def answer(positions: Sequence[Mapping[int, float]]) -> bytes:
    """As vLLM answers ``question``, with the two tokens of the prompt in front."""
    named = [{f"token_id:{token}": value for token, value in found.items()} for found in positions]
    top = [None, {"token_id:2": -3.0}, *named]
    return json.dumps({"choices": [{"logprobs": {"top_logprobs": top}}]}).encode()


def off_by(*differences: float) -> list[dict[int, float]]:
    return [
        {**BACKGROUND, token: logprob + difference}
        for token, logprob, difference in zip(KNOWN.tokens, KNOWN.logprobs, differences, strict=True)
    ]


def test_all_tokens_but_the_last_two_are_given() -> None:
    asked = question(KNOWN)
    assert asked["prompt"] == [1, 2, 7, 8]
    assert asked["max_tokens"] == 2


def test_what_was_recorded_passes() -> None:
    check(KNOWN, 200, answer(off_by(0, 0, 0, 0)), "float32")
    check(KNOWN, 200, answer(off_by(0.01, -0.01, 0.01, 0.01)), "float32")
    check(KNOWN, 200, answer(off_by(0.2, 0, -0.1, 0)), "bfloat16")


@pytest.mark.parametrize(("dtype", "difference"), [("float32", 0.03), ("bfloat16", 0.6), ("auto", -0.6)])
def test_a_token_that_is_off_is_named_with_what_was_expected_and_found(dtype: str, difference: float) -> None:
    found = f"{KNOWN.logprobs[1] + difference:.3f}"
    expected = rf"in {dtype}: token 2 of 4 \(id 8\) should have log-probability -1.000 and has {found}"
    with pytest.raises(CanaryFailed, match=expected):
        check(KNOWN, 200, answer(off_by(0, difference, 0, 0)), dtype)


def test_many_tokens_that_are_a_little_off_are_another_expert_s() -> None:
    with pytest.raises(CanaryFailed, match=r"token 3 of 4 \(id 9\).*0.200 off on average, tolerance 0.1"):
        check(KNOWN, 200, answer(off_by(0.2, 0.2, -0.3, 0.1)), "bfloat16")


def test_a_token_that_is_not_the_likeliest_fails_though_it_is_as_likely_as_before() -> None:
    found = off_by(0, 0, 0, 0)
    found[1] = {8: -1.0, 5: -0.6}
    with pytest.raises(CanaryFailed, match=r"token 2 of 4 .* the likeliest \(id 5\) has -0.600"):
        check(KNOWN, 200, answer(found), "float32")
    check(KNOWN, 200, answer(found), "bfloat16")


def test_a_token_that_is_no_candidate_fails() -> None:
    found = off_by(0, 0, 0, 0)
    found[2] = BACKGROUND
    with pytest.raises(CanaryFailed, match=r"token 3 of 4 \(id 9\) .* and has none among the 5 likeliest"):
        check(KNOWN, 200, answer(found), "bfloat16")


def test_what_follows_another_token_about_as_likely_is_not_compared() -> None:
    found = off_by(0, 0, 0, 0)
    found[2] = {9: -0.265, 6: -0.26}  # the engine went on with 6
    found[3] = BACKGROUND
    check(KNOWN, 200, answer(found), "float32")


@pytest.mark.parametrize(
    ("status", "said", "problem"),
    [
        (400, b"Out of range", "its canary fails in float32: the engine answers 400: Out of range"),
        (200, b"{}", "no log-probabilities"),
        (200, b'{"choices": [{"logprobs": null}]}', "no log-probabilities"),
        (200, answer(off_by(0, 0, 0, 0)[:3]), "has 3 of 4 tokens"),
        (200, answer(off_by(0, 0, 0, math.nan)), "no log-probabilities"),
        (200, answer([*off_by(0, 0, 0, 0)[:3], {}]), "no log-probabilities"),
    ],
)
def test_an_answer_that_is_none_fails(status: int, said: bytes, problem: str) -> None:
    with pytest.raises(CanaryFailed, match=problem):
        check(KNOWN, status, said, "float32")


def test_without_a_canary_an_answer_is_enough() -> None:
    assert question(None)["max_tokens"] == 2
    check(None, 200, b"anything", "float32")
    with pytest.raises(CanaryFailed, match="a first request fails in float32: the engine answers 500"):
        check(None, 500, b"", "float32")


def test_a_canary_is_whole() -> None:
    with pytest.raises(ValueError, match="a log-probability for each"):
        Canary((1,), (2, 3, 4), (-1.0, -1.0))


@pytest.mark.parametrize(
    ("dtype", "platform", "native", "canary", "types"),
    [
        ("auto", "cpu", True, KNOWN, ("bfloat16", "float32")),
        ("auto", "cpu", True, None, ("float32",)),
        ("auto", "cpu", False, KNOWN, ("float32",)),
        ("auto", "cuda", True, KNOWN, ("auto",)),
        ("bfloat16", "cpu", False, None, ("bfloat16",)),
        ("float32", "cpu", True, KNOWN, ("float32",)),
    ],
)
def test_only_a_type_that_nobody_chose_is_given_up(
    dtype: str, platform: str, native: bool, canary: Canary | None, types: tuple[str, ...]
) -> None:
    config = FamilyConfig.model_validate({"dtype": dtype})
    assert types_to_try(config, platform, native, canary) == types


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16\n" * 2, True),
        ("flags : avx512_bf16\nflags : avx512f\n", False),
        ("flags : avx512f amx_bf16 amx_tile\n", False),
        ("Features : fp asimd bf16\n", False),
    ],
)
def test_bfloat16_is_native_where_every_core_has_it_without_amx(
    tmp_path: Path, text: str, native: bool
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert computes_bfloat16(file) is native


@pytest.mark.parametrize(("number", "refused"), [("SIGILL", True), ("SIGABRT", False)])
def test_an_illegal_instruction_is_read_from_the_log(tmp_path: Path, number: str, refused: bool) -> None:
    log = tmp_path / "engine.log"
    program = f"import os, signal; os.kill(os.getpid(), signal.{number})"
    environment = {**os.environ, **engine_environment(FamilyConfig(), "plain", "cpu")}
    with log.open("wb") as output:
        subprocess.run([sys.executable, "-c", program], stderr=output, env=environment, check=False)
    assert refused_instruction(log) is refused
