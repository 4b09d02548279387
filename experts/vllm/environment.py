"""The environment of vLLM's server."""

import os
from collections.abc import Mapping

from experts.spec import FamilyConfig
from experts.vllm.command import VllmMode


def environment(config: FamilyConfig, mode: VllmMode, platform: str) -> Mapping[str, str]:
    """Returns the variables of the server's environment that ours lacks or has otherwise."""
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
        more["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the numbers that NVML, plans and budgets have
    if mode == "lora":
        more["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"  # likewise
    if mode != "plain":
        # Runner V2 has max_num_seqs slots, one for each running request: hidden ones would overflow it.
        # And AdaptersExtension looks for requests where the first runner keeps them.
        more["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    return more
