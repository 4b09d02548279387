"""How long a stream stands still while other clients do what they may: scrape, send large bodies.

    python -m scripts.measure.gaps --experts 150 --runs 5

Starts a gateway over a simulated engine and reads one stream of it. Clients are processes of their own. For
each disturbance the table has the largest gap between two pieces of the stream: the smallest, the median and
the largest of all runs. The first row is the same with no disturbance: less than that cannot be seen.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import yaml
from safetensors.numpy import save_file

from experts.checkpoints.prepare import prepare
from router.router import Router
from server.config.settings import load

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 16 * 2**20
ESCAPES = 2_999_000
TOKENS_PER_S = 500
APART = "apart"
"""The expert whose stream is read, on an engine that is asked nothing else: engines stand still too."""


def repeated(before: str, piece: str, after: str, joint: str = ",") -> bytes:
    """A chat of the largest size that is allowed, most of it ``piece``."""
    head = '{"model":"expert-0","max_tokens":1,"messages":[{"role":"user","content":"Hi"}],"x":' + before
    count = (LARGEST - len(head) - len(after) - 1) // (len(piece) + len(joint))
    return (head + joint.join([piece] * count) + after + "}").encode()


def text_of(piece: str) -> bytes:
    """A routed chat whose text is ``piece`` over and over."""
    head = '{"model":"coe","max_tokens":1,"messages":[{"role":"user","content":"'
    return (head + piece * ((LARGEST - len(head) - 4) // len(piece.encode())) + '"}]}').encode()


def lines(size: int) -> str:
    """As many bytes of a text with as many escaped line feeds as a body may have."""
    feeds = "a\\n" * ESCAPES
    return (feeds + "word " * ((size - len(feeds)) // 5 + 1))[:size]


def all_that_is_taken() -> bytes:
    """Returns a body with as many keys, arrays, numbers, escapes and bytes of text as it may have."""
    head = '{"model":"coe","max_tokens":1,"x":{'
    keys = ",".join(f'"{number:x}":[0,0]' for number in range(49_000))
    numbers = ",".join(["0.5"] * 190_000)
    after = f'}},"y":[{numbers}],"messages":[{{"role":"user","content":"'
    text = lines(LARGEST - len(head) - len(keys) - len(after) - 4)
    return f'{head}{keys}{after}{text}"}}]}}'.encode()


BODIES: Mapping[str, Callable[[], bytes]] = {
    "empty arrays": lambda: repeated("[", "[]", "]"),
    "empty objects": lambda: repeated("[", "{}", "]"),
    "numbers": lambda: repeated("[", "0", "]"),
    "short texts": lambda: repeated("[", '""', "]"),
    "fractions": lambda: repeated("[", "0.1234567890123456", "]"),
    "small objects": lambda: repeated("[", '{"a":0}', "]"),
    "escapes": lambda: text_of("\\u00e9"),
    "a text of <": lambda: text_of("<"),
    "a text of words": lambda: text_of("word "),
    "lines": lambda: text_of(lines(LARGEST - 100)),
    "another script": lambda: text_of("a😀"),
    "too many escapes": lambda: text_of("a\\n"),
    "all that is taken": all_that_is_taken,
    "not JSON": lambda: b"[" * LARGEST,
}


def post(url: str, body: str) -> str:
    """Runs in a process of its own. The answer's status."""
    return str(_ask(url, "POST", "/v1/chat/completions", BODIES[body]())[0])


def scrape(url: str) -> str:
    """Runs in a process of its own. How many lines there are."""
    return f"{len(_ask(url, 'GET', '/metrics')[1].splitlines())} lines"


def _ask(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=300)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def configured(folder: Path, experts: int) -> Path:
    """A configuration of as many experts, prepared."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    save_file({"weight": np.zeros(250, np.float32)}, checkpoint / "model.safetensors")
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (checkpoint / "config.json").write_text(json.dumps(kind))
    (checkpoint / "tokenizer.json").write_text("{}")
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    names = [f"expert-{number}" for number in range(experts)]
    artifact = ROOT / "router" / "embedded"
    categories = Router.load(artifact).categories
    family = {
        "mode": "simulated",
        "max_model_len": 10_000_000,
        "simulation": {"tokens_per_s": TOKENS_PER_S, "process": True},
    }
    tree = {
        "store": str(folder / "store"),
        "logs": str(folder / "logs"),
        "accounts": {"file": str(folder / "accounts.sqlite")},
        "tiers": {"device": "50kB", "host": "50kB", "min_residency_s": 0},
        "families": {"small": family, APART: family},
        "experts": {
            name: {
                "family": APART if name == APART else "small",
                "checkpoint": {"folder": str(checkpoint)},
            }
            for name in (*names, APART)
        },
        "compositions": {
            "coe": {
                "artifact": str(artifact),
                "mapping": {category: names[at % experts] for at, category in enumerate(categories)},
            }
        },
        "server": {"port": 0},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    settings = load(file)
    for name, expert in settings.experts.items():
        prepare(name, expert, settings.store)
    return file


@contextlib.contextmanager
def gateway(configuration: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A running one: its address and its process."""
    command = [sys.executable, "-m", "server.cli", "serve", "--config", str(configuration)]
    with (configuration.parent / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                ready = re.match(r"Ready on (http://\S+)/v1", line)
                if ready:
                    yield ready[1], psutil.Process(process.pid)
                    return
            raise SystemExit(f"the gateway did not start: {(configuration.parent / 'log').read_text()}")
        finally:
            process.terminate()
            process.wait(60)


class Stream:
    """A stream that is read for ever; when its pieces came."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self.last = 0.0
        self.largest = 0.0

    async def read(self) -> None:
        """Reads until it is cancelled."""
        reader, writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        body = json.dumps(
            {
                "model": APART,
                "stream": True,
                "max_tokens": 10**6,
                "ignore_eos": True,
                "messages": [{"role": "user", "content": "Hi"}],
            }
        ).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        with contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head:
                raise SystemExit(f"no stream: {head.decode()}")
            self.begin()
            while await reader.read(2**16):
                now = time.monotonic()
                self.largest, self.last = max(self.largest, now - self.last), now
        raise RuntimeError("the stream ended")

    def begin(self) -> None:
        """Forgets what was before."""
        self.last, self.largest = time.monotonic(), 0.0


def disturbances(url: str, only: str) -> dict[str, list[tuple[Callable[..., str], tuple[str, ...]]]]:
    """Name to what is done at once, in a process each."""
    every: dict[str, list[tuple[Callable[..., str], tuple[str, ...]]]] = {"nothing": []}
    every["a scrape"] = [(scrape, (url,))]
    for body in BODIES:
        every[body] = [(post, (url, body))]
    every["empty arrays, four at once"] = [(post, (url, "empty arrays"))] * 4
    return {name: each for name, each in every.items() if name == "nothing" or re.search(only, name)}


async def measure(url: str, process: psutil.Process, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stream = Stream(url)
    with ProcessPoolExecutor(4) as clients:
        for number in range(options.experts):
            await loop.run_in_executor(clients, warm, url, f"expert-{number}")
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(1)
        print("| disturbance | smallest gap ms | median | largest | took s | answer | resident MB |")
        print("|---|---:|---:|---:|---:|---|---:|")
        for name, work in disturbances(url, options.only).items():
            gaps, took, answers = [], [], set()
            for _ in range(options.runs):
                stream.begin()
                began = time.monotonic()
                asked = [loop.run_in_executor(clients, each, *arguments) for each, arguments in work]
                answers |= set(await asyncio.gather(*asked)) if asked else {""}
                if reading.done():
                    reading.result()
                took.append(time.monotonic() - began)
                await asyncio.sleep(0.5 if work else 2)
                gaps.append(stream.largest * 1000)
            row = [f"{value:.1f}" for value in (min(gaps), statistics.median(gaps), max(gaps))]
            row += [f"{statistics.median(took):.2f}", ", ".join(sorted(answers))]
            print("|", " | ".join([name, *row, f"{process.memory_info().rss / 1e6:.0f}"]), "|", flush=True)
        reading.cancel()


def warm(url: str, expert: str) -> None:
    body = {"model": expert, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    for _ in range(2):  # the second time it is on the device
        _ask(url, "POST", "/v1/chat/completions", json.dumps(body).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--experts", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="disturbances whose name has this in it, an expression")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        configuration = configured(Path(folder), options.experts)
        with gateway(configuration) as (url, process):
            asyncio.run(measure(url, process, options))


if __name__ == "__main__":
    main()
