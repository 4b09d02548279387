"""The command line of vLLM's server."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, assert_never

from experts.spec import CAPTURED_SIZES, FamilyConfig
from experts.vllm.refused_arguments import schedules_asynchronously

VllmMode = Literal["interleaved", "plain", "lora"]
IN_THE_CORE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""An executor that computes in the engine core, with no process of its own beside it."""
INTERNAL_MODEL = "coe-engine"
"""The model name of the checkpoint that vLLM starts with; clients see the expert's name."""
EACH_CAPTURES = {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": list(CAPTURED_SIZES)}
NO_HOST = "none.invalid"
"""vLLM takes an empty list for all hosts. This one cannot exist (RFC 2606)."""


def command(
    config: FamilyConfig,
    mode: VllmMode,
    platform: str,
    expert: str,
    weights: Path,
    more: Sequence[str] = (),
    media_hosts: Sequence[str] = (),
) -> list[str]:
    """Returns the server's command line; ``{socket}`` stands for the path it listens on. ``more``: arguments
    that only the caller knows. ``media_hosts``: the hosts it may fetch content of messages from."""
    arguments = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--uds", "{socket}"]
    arguments += ["--model", str(weights.absolute()), "--served-model-name", INTERNAL_MODEL]
    arguments += ["--dtype", dtype_of(config, platform), *_sizes(config)]
    arguments += ["--tensor-parallel-size", str(config.tensor_parallel_size)]
    # Chat template and sampling defaults belong to the expert: the gateway sends them with each request.
    arguments += ["--trust-request-chat-template", "--generation-config", "vllm"]
    arguments += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    arguments += ["--allowed-media-domains", *(media_hosts or [NO_HOST])]
    if config.task == "embed":
        arguments += ["--runner", "pooling", "--convert", "embed"]
    elif "--disable-log-stats" not in config.extra_args:
        arguments += ["--enable-per-request-metrics"]  # how long a request was in its queue
    if config.tool_parser is not None:
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", config.tool_parser]
    if config.reasoning_parser is not None:
        arguments += ["--reasoning-parser", config.reasoning_parser]
    if platform == "cpu":
        arguments += ["--enforce-eager"]  # compiling takes a minute per start and freezes packed weights
    match mode:
        case "interleaved":
            arguments += _interleaving(config, platform, expert)
        case "plain":
            arguments += ["--worker-extension-cls", "experts.inside_vllm.weights.reload.ReloadExtension"]
        case "lora":
            arguments += ["--worker-extension-cls", "experts.inside_vllm.weights.adapters.AdaptersExtension"]
            if platform == "cpu" and config.tensor_parallel_size == 1:
                # Where it is called "uni", vLLM starts a worker process on the CPU after all.
                arguments += ["--distributed-executor-backend", IN_THE_CORE]
        case unreachable:
            assert_never(unreachable)
    return [*arguments, *more, *config.extra_args]


def _sizes(config: FamilyConfig) -> list[str]:
    """Returns the sizes that are given; the gateway has chosen the others before it starts an engine."""
    sizes = {
        "--max-model-len": config.max_model_len,
        "--kv-cache-memory-bytes": config.kv_cache,
        "--max-num-seqs": config.max_num_seqs,
    }
    return [word for name, size in sizes.items() if size is not None for word in (name, str(int(size)))]


def _interleaving(config: FamilyConfig, platform: str, expert: str) -> list[str]:
    seams = "experts.inside_vllm"
    executor = "ExpertExecutor" if config.tensor_parallel_size == 1 else "ExpertMultiprocExecutor"
    shared = {
        "resident": [expert],
        "cuda_graphs": config.cuda_graphs,
        "switch_overhead": config.switch_overhead,
        "max_turn_wait_s": config.max_turn_wait_s,
        "max_stall_ms": config.max_stall_ms,
    }
    # vLLM schedules no step on the CPU before the one in front of it has ended.
    asynchronous = platform == "cuda" and schedules_asynchronously(config.extra_args)
    scheduler = "AsyncExpertScheduler" if asynchronous else "ExpertScheduler"
    graphs = []
    if platform == "cuda" and config.cuda_graphs == "each":
        graphs = ["--compilation-config", json.dumps(EACH_CAPTURES)]
    return [
        *graphs,
        "--scheduler-cls", f"{seams}.scheduling.scheduler.{scheduler}",
        "--worker-cls", f"{seams}.worker.ExpertWorker",
        "--distributed-executor-backend", f"{seams}.scheduling.executor.{executor}",
        "--additional-config", json.dumps(shared),
        "--no-async-scheduling",  # vLLM's own default; extra_args, which come later, may ask for it
    ]  # fmt: skip


def dtype_of(config: FamilyConfig, platform: str) -> str:
    """Returns vLLM's ``--dtype`` where ``experts.engines.computing_type`` has not decided."""
    return "float32" if config.dtype == "auto" and platform == "cpu" else config.dtype
