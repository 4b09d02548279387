"""One gateway process on real vLLM for the whole folder, and what each expert says when served alone."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import orjson
import psutil
import pytest
import yaml

from experts.spec import Expert
from server.config.settings import load
from server.model_request import engine_chat, parse_chat
from server.routing.catalog import open_experts
from tests.plain_vllm import Answering, PlainVllm

ROOT = Path(__file__).resolve().parents[2]
EXPERTS = ("general", "math", "coding", "medicine", "law")
PROMPTS = (
    "Explain in two sentences why the sky is blue.",
    "What is the derivative of x^3 + 2x?",
    "Write a Python function that adds two numbers.",
)
MAX_TOKENS = 24
PARTS = ("bucket", "sum", "count")
"""Suffixes of a histogram's series."""


@dataclass(slots=True)
class GatewayProcess:
    """A running ``coe serve``."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=300)

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=300)

    def series(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=120).text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def total(self, prefix: str) -> float:
        """Sums the samples of /metrics whose name and labels begin so. There may be none yet of a series that
        there is."""
        text = httpx.get(f"{self.url}/metrics", timeout=120).text
        return total_of(text, prefix)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def total_of(text: str, prefix: str) -> float:
    """``text``: of Prometheus."""
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    name = prefix.partition("{")[0]
    parts = {f"{each}_{part}" for each, kind in kinds.items() for part in PARTS if kind == "histogram"}
    assert name in kinds or name in parts, f"there is no series {name}"
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(prefix))
    return sum(float(value) for _, value in pairs)


@pytest.fixture(scope="session")
def configuration(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded composition with room for two experts on the device and two in host memory."""
    tree = yaml.safe_load((ROOT / "configs" / "embedded.yaml").read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("gateway")
    tree["store"], tree["logs"] = str(store), str(folder / "logs")
    tree["tiers"] |= {"device": "1400MB", "host": "1250MB"}
    tree["families"]["smollm2-135m"] |= {"dtype": "float32", "kv_cache": "512MiB"}
    tree["compositions"]["coe"]["artifact"] = str(ROOT / "router" / "embedded")
    for expert in tree["experts"].values():
        expert["chat_template"] = str(ROOT / "configs" / expert["chat_template"])
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def alone(configuration: Path, plain: PlainVllm) -> Mapping[tuple[str, str], str]:
    """What unmodified vLLM answers, one request at a time, for each expert and prompt (temperature 0)."""
    experts = open_experts(load(configuration))
    return {
        (name, prompt): answer
        for name in EXPERTS
        for prompt, answer in plain.answers(experts[name], _answers).items()
    }


async def _answers(engine: Answering, expert: Expert) -> dict[str, str]:
    return {prompt: await _answer(engine, expert, prompt) for prompt in PROMPTS}


async def _answer(engine: Answering, expert: Expert, prompt: str) -> str:
    request = {
        "model": expert.name,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    }
    body = engine_chat(parse_chat(orjson.dumps(request)), expert)
    answer = await engine.request(expert.name, "/v1/chat/completions", body)
    whole = b"".join([chunk async for chunk in answer.chunks()])
    await answer.close()
    text: str = orjson.loads(whole)["choices"][0]["message"]["content"]
    return text


@pytest.fixture(scope="session")
def gateway(
    configuration: Path, alone: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """``alone`` comes first so that two engines never compute at once."""
    with serving(configuration, tmp_path_factory.mktemp("serve") / "stderr.log") as gateway:
        yield gateway


@contextmanager
def serving(configuration: Path, log: Path) -> Iterator[GatewayProcess]:
    """``coe serve`` on a free port, ready."""
    command = [sys.executable, "-m", "server.cli", "serve", "--config", str(configuration), "--port", "0"]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT)
    try:
        yield GatewayProcess(process, _wait_until_ready(process, log), log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(120)
        if process.stdout:
            process.stdout.close()


def _wait_until_ready(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        found = re.match(r"Ready on (http://\S+)/v1", line)
        if found:
            return found[1]
    raise AssertionError(f"coe serve ended before it was ready:\n{log.read_text()[-4000:]}")
