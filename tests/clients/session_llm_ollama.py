"""simonw's llm with its plugin for Ollama, as a person types it."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients.checks import COMPOSITION, EMBEDDER, KEY, MODEL, PROMPT, URL, Session

session = Session()
ENVIRONMENT = {**os.environ, "LLM_USER_PATH": tempfile.mkdtemp(), "OLLAMA_HOST": URL}
ENVIRONMENT["OLLAMA_HEADERS"] = f"Authorization=Bearer {KEY}"
LLM = [str(Path(sys.executable).with_name("llm"))]
GREEDY = ("-o", "temperature", "0", "-o", "num_predict", "16")


def llm(*arguments: str, fails: bool = False) -> str:
    done = subprocess.run(
        [*LLM, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


@session.check
def models_are_found() -> None:
    listed = llm("ollama", "models")
    assert f"{COMPOSITION}:latest" in listed
    assert f"{MODEL}:latest" in listed


@session.check
def stream() -> None:
    streamed = llm("-m", MODEL, *GREEDY, PROMPT)
    assert streamed.strip()
    assert streamed == llm("-m", MODEL, "--no-stream", *GREEDY, PROMPT)


@session.check
def embeddings() -> None:
    assert llm("embed", "-m", EMBEDDER, "-c", "a text").startswith("[")


@session.check
def errors() -> None:
    assert "Unknown model" in llm("-m", "gpt-9", "hi", fails=True)


if __name__ == "__main__":
    asyncio.run(session.run())
