"""Arguments that would break turns are refused with their reason, and others pass."""

import argparse
import json
import warnings

import pytest

from experts.spec import EngineMode
from experts.vllm.refused_arguments import refusal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

CONNECTOR = "--kv-transfer-config"


def connector(name: str, **more: object) -> str:
    return json.dumps({"kv_connector": name, "kv_role": "kv_both", **more})


@pytest.mark.parametrize(
    ("mode", "arguments", "says"),
    [
        ("interleaved", ["--async-scheduling", "-sc", "{}"], "--async-scheduling: drafts are of the step"),
        ("interleaved", ["--async_sched", "--spec-tokens=2"], "--async-scheduling: drafts"),
        ("interleaved", ["--scheduler-cls=x.Y"], "--scheduler-cls: mode interleaved has a class"),
        ("interleaved", ["--additional-config.resident", "[]"], "keeps the experts in it"),
        ("interleaved", ["--enable-lora"], "an adapter is an expert of a family with mode lora"),
        ("plain", ["--enable-lora"], "an adapter is an expert"),
        ("plain", ["--data-parallel-size", "2"], "sizes, loads and turns count"),
        ("plain", ["-dp=2"], "-dp: sizes"),
        ("lora", ["--pipeline-parallel-size=2"], "--pipeline-parallel-size: sizes"),
        ("plain", ["-tp", "2"], "set the family's tensor_parallel_size"),
        ("interleaved", [CONNECTOR, connector("LMCacheConnectorV1")], "LMCacheConnectorV1 could give one"),
        ("interleaved", [f"{CONNECTOR}={connector('HF3FSKVConnector')}"], "HF3FSKVConnector could give"),
        ("interleaved", [f"{CONNECTOR}.kv_connector", "ExampleConnector"], "ExampleConnector could give"),
        ("interleaved", [CONNECTOR, "nonsense"], "nonsense could give"),
        ("plain", [CONNECTOR, connector("OffloadingConnector")], "apart in mode plain: none"),
        ("lora", [CONNECTOR, connector("LMCacheMPConnector")], "in mode lora"),
        ("plain", ["--kv-offloading-size", "8"], "OffloadingConnector could give"),
        ("lora", ["--kv-offloading-size", "8", "--kv-offloading-backend", "lmcache"], "LMCacheMPConnector"),
        ("plain", ["--config", "vllm.yaml"], "--config: the arguments in that file would go unchecked"),
        ("interleaved", ["--compilation-config", "{}"], "--compilation-config: cuda_graphs: each says"),
        ("interleaved", ["-cc.cudagraph_mode=PIECEWISE"], "-cc.cudagraph-mode: cuda_graphs: each says"),
        ("interleaved", ["--cudagraph-capture-sizes", "1", "2"], "cuda_graphs: each says"),
        ("interleaved", ["--max_cudagraph_capture_size=8"], "cuda_graphs: each says"),
        ("interleaved", ["--compilation-c", "{}"], "--compilation-config: cuda_graphs: each says"),
        ("interleaved", ["--compilation-conf.cudagraph_mode=NONE"], "--compilation-config.cudagraph-mode: "),
        ("plain", ["-t", "2"], "-tp: set the family's tensor_parallel_size"),
        ("interleaved", ["--kv-transfer-c.kv_connector", "ExampleConnector"], "ExampleConnector could give"),
    ],
)
def test_what_would_break_turns_is_refused(mode: EngineMode, arguments: list[str], says: str) -> None:
    assert says in (refusal(mode, arguments) or "")


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [
        ("interleaved", ["--swap-space", "0", "--tool-strict-level", "parameter"]),
        ("interleaved", ["--no-async-scheduling"]),
        ("interleaved", ["--async-scheduling"]),
        ("interleaved", ["--async-scheduling", "--no-async-scheduling", "-sc", "{}"]),
        ("interleaved", ["--data-parallel-size", "1"]),
        ("interleaved", ["--seed", "-1"]),
        ("interleaved", [CONNECTOR, connector("OffloadingConnector")]),
        ("interleaved", ["--kv-offloading-size", "8"]),
        ("plain", ["--async-scheduling"]),
        ("plain", ["--compilation-config", "{}"]),
        ("simulated", ["--enable-lora"]),
    ],
)
def test_what_does_not_passes(mode: EngineMode, arguments: list[str]) -> None:
    assert refusal(mode, arguments) is None


@pytest.mark.parametrize("mode", ["interleaved", "plain", "lora"])
def test_a_beginning_of_an_argument_is_what_vllms_own_parser_takes_it_for(mode: EngineMode) -> None:
    parser: argparse.ArgumentParser = make_arg_parser(FlexibleArgumentParser())
    options = [option for action in parser._actions for option in action.option_strings]
    refused = [option for option in options if refusal(mode, [option]) is not None]
    assert "--pipeline-parallel-size" in refused
    for option in options:
        least = 2 if option.startswith("--") else 1
        for length in range(least + 1, len(option)):
            begun = option[:length]
            meant = {each for each in options if each.startswith(begun)}
            if begun not in options and len(meant) == 1:
                assert (refusal(mode, [begun]) is not None) == (option in refused), begun


def test_asynchronous_steps_are_for_one_gpu() -> None:
    reason = refusal("interleaved", ["--async-scheduling"], ranks=2) or ""
    assert reason.startswith("--async-scheduling: with tensor_parallel_size over 1")


def test_of_several_connectors_behind_one_each_is_looked_at() -> None:
    inner = [{"kv_connector": "OffloadingConnector"}, {"kv_connector": "LMCacheConnectorV1"}]
    several = connector("MultiConnector", kv_connector_extra_config={"connectors": inner})
    assert "LMCacheConnectorV1 could" in (refusal("interleaved", [CONNECTOR, several]) or "")


def test_where_experts_share_graphs_vllm_may_be_told_which_to_capture() -> None:
    assert refusal("interleaved", ["-cc.cudagraph_mode=PIECEWISE"], each_captures=False) is None


def test_what_keeps_addresses_of_the_kv_pool_does_not_go_with_sleep() -> None:
    arguments = [CONNECTOR, connector("SimpleCPUOffloadConnector")]
    assert refusal("interleaved", arguments) is None
    reason = refusal("interleaved", arguments, sleeps=True) or ""
    assert "SimpleCPUOffloadConnector keeps the addresses of the KV pool" in reason
    assert refusal("interleaved", ["--kv-offloading-size", "8"], sleeps=True) is None
