"""The gateway that ``check_tools`` starts where it is given none."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.check_tools.catalog import ROOT


@contextlib.contextmanager
def served(folder: Path, *, embedded: bool) -> Iterator[str]:
    """Serves on a free port until the tools are done, and gives the address."""
    config = ROOT / "configs" / "embedded.yaml" if embedded else _simulated(folder)
    log = folder / "gateway.log"
    serve = [sys.executable, "-m", "server.cli", "serve", "--config", str(config), "--port", "0"]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(serve, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(60)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Waits until the gateway says where it answers."""
    while process.poll() is None:
        said = log.read_text(encoding="utf-8")
        found = re.search(r"curl \S* ?(http://127\.0\.0\.1:\d+)", said)
        if found:
            return found[1]
        time.sleep(0.2)
    sys.exit(f"check_tools: the gateway ended: {log.read_text(encoding='utf-8')[-600:]}")


def _simulated(folder: Path) -> Path:
    """Writes and prepares a configuration of simulated experts with a checkpoint of a few bytes."""
    import numpy as np
    from safetensors.numpy import save_file

    from experts.checkpoints.prepare import prepare
    from server.config.settings import load

    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    save_file({"weight": np.zeros(250, np.float32)}, checkpoint / "model.safetensors")
    made = {
        "config.json": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        "tokenizer.json": {},
        "tokenizer_config.json": {"chat_template": "{{ messages }}"},
        "generation_config.json": {"eos_token_id": 2},
    }
    for name, tree in made.items():
        (checkpoint / name).write_text(json.dumps(tree), encoding="utf-8")
    names = ("general", "math", "coding", "medicine", "law")
    tree = {
        "state": str(folder / "state"),
        "tiers": {"device": "2500B", "host": "2500B"},
        "families": {"small": {"mode": "simulated", "max_model_len": 200_000}},
        "experts": {name: {"family": "small", "checkpoint": {"folder": str(checkpoint)}} for name in names},
        "compositions": {"coe": {"artifact": str(ROOT / "router" / "embedded")}},
    }
    config = folder / "simulated.yaml"
    config.write_text(json.dumps(tree), encoding="utf-8")
    settings = load(config)
    for name, expert in settings.experts.items():
        prepare(name, expert, settings.store)
    return config
