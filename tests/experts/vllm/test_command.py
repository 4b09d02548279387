import json
from pathlib import Path

import pytest

from experts.spec import FamilyConfig
from experts.vllm.command import command
from experts.vllm.environment import environment
from experts.vllm.modes import full_weights_engine
from experts.vllm_version import InstalledVllm

WEIGHTS = Path("/models/law")


def flag(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_on_cpu_auto_is_float32_and_nothing_is_compiled() -> None:
    arguments = command(FamilyConfig(), "plain", "cpu", "law", WEIGHTS)
    assert flag(arguments, "--dtype") == "float32"
    assert "--enforce-eager" in arguments
    assert environment(FamilyConfig(), "plain", "cpu")["TORCHDYNAMO_DISABLE"] == "1"


def test_who_wants_small_functions_compiled_on_cpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "0")
    assert environment(FamilyConfig(), "plain", "cpu")["TORCHDYNAMO_DISABLE"] == "0"


def test_threads_spin_a_little_only_where_the_core_is_alone_with_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert environment(FamilyConfig(), "interleaved", "cpu")["GOMP_SPINCOUNT"] == "2000"
    two = FamilyConfig(tensor_parallel_size=2)
    assert "GOMP_SPINCOUNT" not in environment(FamilyConfig(), "plain", "cpu")
    assert "GOMP_SPINCOUNT" not in environment(two, "interleaved", "cpu")
    assert "GOMP_SPINCOUNT" not in environment(FamilyConfig(), "interleaved", "cuda")
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    assert environment(FamilyConfig(), "interleaved", "cpu")["GOMP_SPINCOUNT"] == "0"


def test_on_cuda_auto_is_the_checkpoints_own_type() -> None:
    arguments = command(FamilyConfig(), "plain", "cuda", "law", WEIGHTS)
    assert flag(arguments, "--dtype") == "auto"
    assert "--enforce-eager" not in arguments
    assert "TORCHDYNAMO_DISABLE" not in environment(FamilyConfig(), "plain", "cuda")


def test_plain_mode_leaves_scheduler_and_worker_as_they_are() -> None:
    arguments = command(FamilyConfig(), "plain", "cpu", "law", WEIGHTS)
    assert not {"--scheduler-cls", "--worker-cls", "--distributed-executor-backend"} & set(arguments)


def test_interleaving_names_the_first_expert_the_limits_of_turns_and_the_longest_stall() -> None:
    config = FamilyConfig(switch_overhead=0.05, max_stall_ms=20)
    arguments = command(config, "interleaved", "cpu", "law", WEIGHTS)
    shared = {"resident": ["law"], "switch_overhead": 0.05, "max_turn_wait_s": 1.0, "max_stall_ms": 20}
    shared["cuda_graphs"] = "each"
    assert json.loads(flag(arguments, "--additional-config")) == shared


@pytest.mark.parametrize(
    ("platform", "arguments", "scheduler"),
    [
        ("cuda", (), "ExpertScheduler"),
        ("cuda", ("--async-scheduling",), "AsyncExpertScheduler"),
        ("cuda", ("--async-scheduling", "--no-async-scheduling"), "ExpertScheduler"),
        ("cpu", ("--async-scheduling",), "ExpertScheduler"),
    ],
)
def test_steps_are_scheduled_ahead_where_that_is_asked_for_on_cuda(
    platform: str, arguments: tuple[str, ...], scheduler: str
) -> None:
    words = command(FamilyConfig(extra_args=arguments), "interleaved", platform, "law", WEIGHTS)
    assert flag(words, "--scheduler-cls") == f"experts.inside_vllm.scheduling.scheduler.{scheduler}"


def test_each_expert_has_few_graphs_and_those_that_are_shared_are_as_vllm_has_them() -> None:
    each, shared = FamilyConfig(), FamilyConfig(cuda_graphs="shared")
    wanted = {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32, 64]}
    arguments = command(each, "interleaved", "cuda", "law", WEIGHTS)
    assert json.loads(flag(arguments, "--compilation-config")) == wanted
    for others in (
        command(shared, "interleaved", "cuda", "law", WEIGHTS),
        command(each, "plain", "cuda", "law", WEIGHTS),
        command(each, "interleaved", "cpu", "law", WEIGHTS),
    ):
        assert "--compilation-config" not in others


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"mode": "plain", "sleep_after_s": 5}, "sleep_after_s goes with mode interleaved"),
        ({"cuda_graphs": "shared", "sleep_after_s": 5}, "sleep_after_s goes with cuda_graphs: each"),
    ],
)
def test_what_cannot_sleep_is_refused(config: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        FamilyConfig.model_validate(config)


def test_several_devices_have_a_worker_each() -> None:
    config = FamilyConfig(tensor_parallel_size=2, devices=(2, 3))
    arguments = command(config, "interleaved", "cuda", "law", WEIGHTS)
    assert flag(arguments, "--distributed-executor-backend").endswith("ExpertMultiprocExecutor")
    assert environment(config, "interleaved", "cuda")["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_parsers_of_tools_and_reasoning_are_vllms() -> None:
    config = FamilyConfig(tool_parser="hermes", reasoning_parser="qwen3")
    arguments = command(config, "plain", "cpu", "law", WEIGHTS)
    assert "--enable-auto-tool-choice" in arguments
    assert flag(arguments, "--tool-call-parser") == "hermes"
    assert flag(arguments, "--reasoning-parser") == "qwen3"
    without = command(FamilyConfig(), "plain", "cpu", "law", WEIGHTS)
    assert not {"--enable-auto-tool-choice", "--tool-call-parser", "--reasoning-parser"} & set(without)


def test_a_family_that_embeds_has_vllms_pooling_runner() -> None:
    arguments = command(FamilyConfig(mode="plain", task="embed"), "plain", "cpu", "e5", WEIGHTS)
    assert (flag(arguments, "--runner"), flag(arguments, "--convert")) == ("pooling", "embed")
    assert "--runner" not in command(FamilyConfig(), "plain", "cpu", "law", WEIGHTS)


def test_more_arguments_come_last() -> None:
    config = FamilyConfig(extra_args=("--swap-space", "0"))
    assert command(config, "plain", "cpu", "law", WEIGHTS)[-2:] == ["--swap-space", "0"]


def warned(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("version", "missing", "plain_because", "says"),
    [
        ("0.33.1", "Scheduler.schedule in x.py", None, "vLLM 0.33.1 has no Scheduler.schedule in x.py"),
        ("0.32.0+rocm700", None, None, "is for ROCm"),
        ("0.32.0", None, "its state mixes", "family f: its state mixes; falling back to plain mode"),
    ],
)
def test_what_cannot_interleave_falls_back_to_plain_mode_and_says_why(
    version: str,
    missing: str | None,
    plain_because: str | None,
    says: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = full_weights_engine(
        "f",
        FamilyConfig(),
        tmp_path,
        InstalledVllm("cuda", version),
        plain_because=plain_because,
        find_missing=lambda: missing,
    )
    assert (engine.mode, engine.resident_limit) == ("plain", 1)
    assert says in warned(caplog)


@pytest.mark.parametrize(
    ("vllm", "says"),
    [
        (InstalledVllm("cpu", "0.32.4"), ""),
        (InstalledVllm("cpu", "0.33.1"), "interleaving was run on vLLM 0.32.*, 0.33.1 is installed"),
        (InstalledVllm("cuda", "0.32.4"), "no GPU has run interleaving"),
    ],
)
def test_where_every_seam_is_there_it_interleaves_and_says_what_was_not_run(
    vllm: InstalledVllm, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = full_weights_engine("f", FamilyConfig(), tmp_path, vllm, find_missing=lambda: None)
    assert (engine.mode, engine.resident_limit) == ("interleaved", None)
    assert says in warned(caplog)
    assert bool(says) == bool(caplog.records)


def test_a_family_that_chose_plain_mode_hears_of_no_seam(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = FamilyConfig(mode="plain")
    engine = full_weights_engine(
        "f", config, tmp_path, InstalledVllm("cuda", "0.99"), plain_because="it mixes"
    )
    assert (engine.mode, caplog.records) == ("plain", [])
