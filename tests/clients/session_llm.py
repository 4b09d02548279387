"""simonw's llm, as a person types it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients.checks import API, COMPOSITION, KEY, MODEL, PROMPT, Leaving, Session

session = Session()
HOME = Path(tempfile.mkdtemp())
(HOME / "extra-openai-models.yaml").write_text(
    json.dumps(
        [
            {"model_id": name, "model_name": name, "api_base": API, "api_key_name": "coe"}
            | {"supports_tools": True, "supports_schema": True}
            for name in (MODEL, COMPOSITION, "gpt-9")
        ]
    ),
    encoding="utf-8",
)
(HOME / "keys.json").write_text(json.dumps({"coe": KEY}), encoding="utf-8")
(HOME / "clock.py").write_text(
    'def clock(utc: bool) -> str:\n    "Says what time it is."\n    return "noon"\n'
)
ENVIRONMENT = {**os.environ, "LLM_USER_PATH": str(HOME)}
LLM = [str(Path(sys.executable).with_name("llm"))]
GREEDY = ("-o", "temperature", "0")
"""Drawn at random, a model this small ends some answers before their first word."""
NO_END = json.dumps({"0": -100, "2": -100})
"""Rules out both tokens that end an answer: llm has no option for ``ignore_eos``."""


def llm(*arguments: str, fails: bool = False) -> str:
    done = subprocess.run(
        [*LLM, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


@session.check
def chat() -> None:
    assert llm("-m", COMPOSITION, "--no-stream", *GREEDY, "-o", "max_tokens", "16", PROMPT).strip()


@session.check
def stream() -> None:
    streamed = llm("-m", MODEL, *GREEDY, "-o", "max_tokens", "16", PROMPT)
    assert streamed == llm("-m", MODEL, "--no-stream", *GREEDY, "-o", "max_tokens", "16", PROMPT)


@session.check
def a_conversation_goes_on_and_its_tokens_are_logged() -> None:
    assert llm("-m", MODEL, "-c", *GREEDY, "-o", "max_tokens", "8", "And at night?").strip()
    (last,) = json.loads(llm("logs", "-n", "1", "--json"))
    assert last["output_tokens"] == 8


@session.check
def a_json_schema_is_kept() -> None:
    length = ("-o", "max_tokens", "60")
    answer = llm("-m", MODEL, "--schema", "yes bool", *GREEDY, *length, "Is Europe a continent?")
    assert isinstance(json.loads(answer)["yes"], bool)


@session.check
def tools_are_offered() -> None:
    """It leaves the choice to the model, which is too small to make it."""
    assert llm(
        "-m",
        MODEL,
        "--functions",
        str(HOME / "clock.py"),
        *GREEDY,
        *("-o", "max_tokens", "8"),
        "What time is it?",
    ).strip()


@session.check
def an_interrupted_answer_is_cancelled() -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what runs in the background inherits its being ignored
    with Leaving():
        process = subprocess.Popen(
            [
                *LLM,
                "-m",
                MODEL,
                "-o",
                "max_tokens",
                "1500",
                "-o",
                "logit_bias",
                NO_END,
                "Count to a thousand.",
            ],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


@session.check
def errors() -> None:
    assert "does not exist" in llm("-m", "gpt-9", "hi", fails=True)
    assert "context" in llm("-m", MODEL, "word " * 5000, fails=True)


if __name__ == "__main__":
    asyncio.run(session.run())
