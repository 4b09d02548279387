"""Clients that people use, each in a session of its own, over one gateway on real vLLM.

A session is a program that prints a line for each check; it runs without this file against any gateway:
``BASE_URL=http://127.0.0.1:8000 .venv-clients/bin/python -m tests.clients.session_langchain``.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.conftest import ROOT, serving

pytestmark = pytest.mark.engine

Command = list[str | Path]
CLIENTS = ROOT / ".venv-clients" / "bin"
"""Made by scripts/install_clients."""
KEY = "key-of-the-sessions"


def session(client: str, python: str | Path = CLIENTS / "python") -> Command:
    return [python, "-m", f"tests.clients.session_{client}"]


def node(client: str) -> Command:
    return [CLIENTS / "node", f"tests/clients/node/session_{client}.mjs"]


SESSIONS: dict[str, Command] = {
    "wire": session("wire", sys.executable),
    "stored": session("stored", sys.executable),
    "openai": session("openai", sys.executable),
    "openai-2": session("openai"),
    "openai-node": node("openai"),
    "ai-sdk": node("ai_sdk"),
    "anthropic": session("anthropic"),
    "langchain": session("langchain"),
    "llama-index": session("llama_index"),
    "litellm": session("litellm"),
    "pydantic-ai": session("pydantic_ai"),
    "instructor": session("instructor"),
    "llm": session("llm"),
    "llm-ollama": session("llm_ollama"),
    "ollama": session("ollama", sys.executable),
    "ollama-node": node("ollama"),
    "curl": ["bash", "tests/clients/session_curl.sh"],
}
LANGCHAINS_SUITE: Command = [
    *(CLIENTS / "python", "-m", "pytest", "-q", "-rxX", "tests/clients/langchain_standard.py"),
    # Of its own packages and settings, not this project's.
    *(
        "-c",
        os.devnull,
        "--rootdir",
        ROOT,
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
        # One event loop for all: LangChain keeps its connections from one test to the next.
        "-o",
        "asyncio_default_test_loop_scope=session",
        "-o",
        "asyncio_default_fixture_loop_scope=session",
    ),
]


@pytest.fixture(scope="module")
def url(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a gateway over the embedded composition."""
    folder = tmp_path_factory.mktemp("clients")
    tree = yaml.safe_load((ROOT / "configs" / "embedded.yaml").read_text(encoding="utf-8"))
    tree["store"], tree["logs"] = str(store), str(folder / "logs")
    limits = {"requests_per_minute": 100_000, "tokens_per_minute": 100_000_000}
    tree["server"]["api_keys"] = [{"key": KEY, "name": "sessions", **limits}]
    tree["families"]["smollm2-135m"] |= {"dtype": "float32", "kv_cache": "512MiB"}
    tree["compositions"]["coe"]["artifact"] = str(ROOT / "router" / "embedded")
    tree["batches"] = {"folder": str(folder / "batches")}
    for expert in tree["experts"].values():
        expert["chat_template"] = str(ROOT / "configs" / expert["chat_template"])
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    with serving(file, folder / "stderr.log") as gateway:
        yield gateway.url


def run(command: Command, url: str, home: Path) -> str:
    """What it printed. Its environment has nothing of ours in it that it does not need."""
    assert CLIENTS.is_dir(), f"{CLIENTS.parent} is missing; run scripts/install_clients"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "BASE_URL": url, "API_KEY": KEY}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.mark.parametrize("client", SESSIONS)
def test_a_client_finds_what_it_expects(client: str, url: str, tmp_path: Path) -> None:
    printed = run(SESSIONS[client], url, tmp_path)
    print(printed)
    assert printed.splitlines()[-1].endswith(" passed, 0 failed"), printed
    assert printed.startswith("ok ")
    deadline = time.monotonic() + 60
    while leases(url):
        assert time.monotonic() < deadline, "it left a lease"
        time.sleep(0.1)


def leases(url: str) -> float:
    request = urllib.request.Request(f"{url}/metrics", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("coe_leases{"))


def test_langchains_own_suite_passes_but_for_what_the_model_cannot(url: str, tmp_path: Path) -> None:
    print(run(LANGCHAINS_SUITE, url, tmp_path))
