"""Asks an engine for an expert's canary, and compares the answer with what preparation recorded.

The engine is given the prompt and all recorded tokens but the last two, which it has to find itself: one in
the step that reads the prompt, the other in a step that computes a single token, by other kernels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from experts.errors import CanaryFailed
from experts.spec import Canary

PATH = "/v1/completions"
FOUND = 2
"""Tokens that the engine finds itself."""
CANDIDATES = 5
"""How many of the likeliest tokens' log-probabilities are asked for, beside that of the token that stands
there."""
_ID = "token_id:"
_Found = Mapping[int, float]
"""Log-probabilities at one position, by token."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest distance of log-probabilities from the recorded ones: of each, and on average."""

    each: float
    mean: float


FLOAT32 = Tolerance(each=0.02, mean=0.02)
HALF = Tolerance(each=0.5, mean=0.1)
"""For types of 16 bits. Noise and the distances of wrong experts, measured: docs/concepts/engine.md,
*Canaries*."""


def question(canary: Canary | None) -> dict[str, Any]:
    """Returns the body for ``PATH``; without a canary it is some text, of which only the status can be
    checked."""
    if canary is None:
        return {"prompt": "Hello", "max_tokens": FOUND, "temperature": 0}
    return {
        "prompt": [*canary.prompt, *canary.tokens[:-FOUND]],
        "max_tokens": FOUND,
        "temperature": 0,
        "ignore_eos": True,
        "echo": True,  # log-probabilities of the prompt too
        "logprobs": CANDIDATES,
        "return_tokens_as_token_ids": True,
    }


def check(canary: Canary | None, status: int, answer: bytes, dtype: str) -> None:
    """Raises CanaryFailed naming a token whose log-probability is not the recorded one, or that is not the
    likeliest, by more than the tolerance of an engine that computes in ``dtype``."""
    if status != 200:
        failing = "a first request" if canary is None else "its canary"
        raise CanaryFailed(
            f"{failing} fails in {dtype}: the engine answers {status}: {answer.decode()[:500]}"
        )
    if canary is None:
        return
    allowed = FLOAT32 if dtype == "float32" else HALF
    positions = _positions(answer)[len(canary.prompt) - 1 :]
    if len(positions) != len(canary.tokens):
        raise CanaryFailed(
            f"the engine's answer to its canary has {len(positions)} of {len(canary.tokens)} tokens"
        )
    off: list[float] = []
    for position, found in enumerate(positions):
        token, best = canary.tokens[position], max(found, key=found.__getitem__)
        logprob = found.get(token, float("-inf"))
        off.append(abs(logprob - canary.logprobs[position]))
        if not (off[-1] <= allowed.each and found[best] - logprob <= allowed.each):
            raise _failed(canary, positions, position, dtype, f"tolerance {allowed.each}")
        if position >= len(canary.tokens) - FOUND and best != token:
            break  # about as likely; the next position belongs to another text
    mean = sum(off) / len(off)
    if mean > allowed.mean:
        on_average = f"{mean:.3f} off on average, tolerance {allowed.mean}"
        raise _failed(canary, positions, off.index(max(off)), dtype, on_average)


def _positions(answer: bytes) -> list[_Found]:
    """Reads the log-probabilities at each position of prompt and answer but the first, which has none."""
    try:
        positions = orjson.loads(answer)["choices"][0]["logprobs"]["top_logprobs"][1:]
        if not all(positions):
            raise ValueError("a position without any")
        return [
            {int(token.removeprefix(_ID)): float(value) for token, value in found.items()}
            for found in positions
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CanaryFailed(
            f"the engine's answer to its canary has no log-probabilities: {error!r}"
        ) from error


def _failed(
    canary: Canary, positions: Sequence[_Found], position: int, dtype: str, tolerance: str
) -> CanaryFailed:
    token, found = canary.tokens[position], positions[position]
    best = max(found, key=found.__getitem__)
    seen = f"{found[token]:.3f}" if token in found else f"none among the {CANDIDATES} likeliest"
    advice = "" if dtype == "float32" else ", and if that finds nothing set dtype: float32 for its family"
    return CanaryFailed(
        f"its canary fails in {dtype}: token {position + 1} of {len(canary.tokens)} (id {token}) should have "
        f"log-probability {canary.logprobs[position]:.3f} and has {seen}, the likeliest (id {best}) has "
        f"{found[best]:.3f} ({tolerance}); run: coe experts verify{advice}"
    )
