"""Engine behind every proxy of ``coe bench gateway``: the simulated one, as a process."""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.gateway.load import Kind
from benchmarks.gateway.pinned import Pinned, free_port
from experts.spec import SimulationConfig

EXPERT = "law"
CHECKPOINT = "checkpoint"
TOKENS_PER_S = 200.0
"""Tokens of a stream in a second. Whole answers come at once."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Template of SmolLM2-Instruct: it goes to the engine with each request."""


def checkpoint(folder: Path) -> Path:
    """Makes a checkpoint of a few bytes that no real engine could run."""
    folder.mkdir()
    save_file({"weight": np.zeros(250, np.float32)}, folder / "model.safetensors")
    files = {
        "config.json": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        "tokenizer.json": {},
        "tokenizer_config.json": {"chat_template": CHAT_TEMPLATE},
        "generation_config.json": {"eos_token_id": 2},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def speeds(kind: Kind) -> SimulationConfig:
    return SimulationConfig(tokens_per_s=TOKENS_PER_S if kind == "stream" else 1e9, switch_s=0)


async def launch(kind: Kind, folder: Path, core: int) -> Pinned:
    """Starts the engine and returns it ready, on TCP. Raises EngineStartFailed."""
    port = free_port()
    command = [sys.executable, "-m", "experts.simulated.server", "--port", str(port), "--expert", EXPERT]
    command += ["--weights", str(checkpoint(folder / CHECKPOINT)), "--speeds", speeds(kind).model_dump_json()]
    upstream = await Pinned.launch(command, core, port, folder / "upstream.log")
    try:
        await upstream.ready(EXPERT)
    except BaseException:
        await upstream.stop()
        raise
    return upstream
