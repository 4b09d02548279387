"""``coe bench engine`` from end to end: simulated engines, and a stand-in for llama-cpp-python's server."""

import io
import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ByteSize
from rich.console import Console
from safetensors.numpy import save_file

from benchmarks.engine.closed_loop import run
from benchmarks.engine.drain_then_swap import DrainThenSwap
from benchmarks.engine.kvcached import Kvcached, switched_on
from benchmarks.engine.llama_cpp import LlamaCpp
from benchmarks.engine.measure import measure
from benchmarks.engine.processes import Processes
from benchmarks.engine.rival import KVCACHED, LLAMA_CPP, PROCESSES, SLEEPING, SWAPPING
from benchmarks.engine.sleep_and_wake import SleepAndWake
from benchmarks.engine.tables import show
from benchmarks.engine.workload import Cell, Plan
from experts.checkpoints.prepare import prepare
from experts.errors import EngineLost, EngineStartFailed, LoadFailed
from experts.spec import Expert, FamilyConfig, SimulationConfig
from server.cli.main import main
from server.config.settings import Settings, SettingsError, load
from server.routing.catalog import open_experts

SPEEDS = {"tokens_per_s": 2000, "switch_s": 0}
PLAN = Plan(experts=(1, 2), streams=(2, 4), tokens=3, requests=2, burst=2, repeat=2)
NAMES = ("general", "law")

STAND_IN = """
import json, sys
from aiohttp import web

settings = json.load(open(sys.argv[sys.argv.index("--config_file") + 1]))

async def models(request):
    return web.json_response({"data": [{"id": model["model_alias"]} for model in settings["models"]]})

async def chat(request):
    body = await request.json()
    if body["model"] not in [model["model_alias"] for model in settings["models"]]:
        return web.json_response({"error": "no such model"}, status=400)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for text in ["", *["x"] * body["max_tokens"]]:
        event = {"choices": [{"delta": {"content": text}}]}
        await response.write(b"data: " + json.dumps(event).encode() + b"\\r\\n\\r\\n")
    await response.write(b"data: [DONE]\\r\\n\\r\\n")
    return response

app = web.Application()
app.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", chat)])
web.run_app(app, host=settings["host"], port=settings["port"], print=None)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration of two prepared experts of a few bytes on simulated engines."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    save_file({"weight": np.zeros(250, np.float32)}, checkpoint / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "tokenizer.json").write_text("{}")
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    tree = {
        "store": str(tmp_path / "store"),
        "logs": str(tmp_path / "logs"),
        "tiers": {"device": "2500B", "host": "2500B"},
        "families": {"small": {"mode": "simulated", "simulation": SPEEDS}},
        "experts": {name: {"family": "small", "checkpoint": {"folder": str(checkpoint)}} for name in NAMES},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    settings = load(file)
    for name, expert in settings.experts.items():
        prepare(name, expert, settings.store)
    return file


@pytest.fixture
def settings(file: Path) -> Settings:
    return load(file)


@pytest.fixture
def experts(settings: Settings) -> list[Expert]:
    return list(open_experts(settings).values())


@pytest.fixture
def llama_python(tmp_path: Path) -> Path:
    """An interpreter whose ``llama_cpp.server`` answers without a model."""
    package = tmp_path / "site" / "llama_cpp" / "server"
    package.mkdir(parents=True)
    for name in ("__init__.py", "app.py", "../__init__.py"):
        (package / name).write_text("")
    (package / "__main__.py").write_text(STAND_IN)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


def unheard(stage: str, done: int, total: int) -> None:
    pass


async def test_every_rival_is_measured_on_every_cell_it_can_serve(
    settings: Settings, llama_python: Path
) -> None:
    heard: list[tuple[int, int]] = []
    report = await measure(
        settings, PLAN, lambda _, done, total: heard.append((done, total)), llama_python, llama_python
    )
    cells: dict[str, list[Cell]] = {}
    for each in report.measured:
        cells.setdefault(each.rival, []).append(each.cell)
    assert cells["interleaved"] == [*PLAN.cells(1, same_batches=True), *PLAN.cells(2)]
    assert cells[SWAPPING] == [*PLAN.cells(1), *PLAN.cells(2)]
    assert cells[PROCESSES] == cells[SLEEPING] == cells[LLAMA_CPP] == PLAN.cells(2)
    assert [each.rival for each in report.not_measured] == [KVCACHED]
    for each in report.measured:
        assert len(each.runs) == PLAN.repeat
        assert each.median.requests == each.cell.streams * PLAN.requests
        assert each.median.tokens == each.median.requests * PLAN.tokens
    assert heard == sorted(heard)
    assert heard[-1][0] == heard[-1][1]


async def test_what_is_not_measured_says_why(settings: Settings) -> None:
    report = await measure(settings, PLAN, unheard)
    assert [(each.rival, each.experts, each.reason) for each in report.not_measured] == [
        (KVCACHED, 2, "kvcached needs a GPU"),
        (LLAMA_CPP, 2, "no interpreter with llama_cpp was named (--llama-python)"),
    ]


async def test_missing_experts_are_others_under_new_names(settings: Settings) -> None:
    plan = Plan(experts=(3,), streams=(3,), tokens=1, requests=1, burst=1, repeat=1)
    report = await measure(settings, plan, unheard)
    assert report.setting.experts == ("general", "law", "general-2")
    assert report.setting.repeated == ("general-2",)


async def test_a_configuration_without_interleaving_is_refused(settings: Settings) -> None:
    families = {"small": FamilyConfig(mode="plain")}
    with pytest.raises(SettingsError, match="interleaved"):
        await measure(settings.model_copy(update={"families": families}), PLAN, unheard)


async def test_a_plan_that_cannot_be_is_refused(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="lower --burst"):
        await measure(settings, replace(PLAN, burst=100), unheard)


def test_the_verb_refuses_numbers_that_mean_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "engine", "--streams", "0"])
    assert "'0' is not a whole number from 1" in capsys.readouterr().err


async def test_the_tables_show_figures_ratios_and_gaps(settings: Settings) -> None:
    report = await measure(settings, PLAN, unheard)
    printed = io.StringIO()
    show(report, Console(file=printed, width=200))
    for text in ("load average", "one expert", "drain then swap", "at most 0.2", "not measured: llama-cpp"):
        assert text in printed.getvalue()


def test_the_verb_writes_json(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    options = ["--experts", "2", "--streams", "2", "--tokens", "2", "--requests", "1", "--burst", "1"]
    assert main(["bench", "engine", "--config", str(file), *options, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["setting"]["mode"] == "simulated"
    assert {each["rival"] for each in report["measured"]} == {"interleaved", SWAPPING, SLEEPING, PROCESSES}
    assert all("met" in ratio for ratio in report["ratios"])
    assert "drain then swap" in capsys.readouterr().out


async def test_alternating_requests_cost_the_swapping_rival_few_swaps(
    settings: Settings, experts: list[Expert]
) -> None:
    rival = DrainThenSwap("small", settings.families["small"], settings.logs)
    await rival.hold(experts)
    cell = Cell("alternating", 2, 4)
    found = await run(rival, PLAN.questions(cell, NAMES, "0"), 4, 2, lambda: None)
    await rival.stop()
    assert len(found.served) == 8
    assert 1 <= found.switching.switches < 8


async def test_a_swap_that_fails_ends_the_run(settings: Settings, experts: list[Expert]) -> None:
    rival = DrainThenSwap("small", settings.families["small"], settings.logs)
    await rival.hold(experts)
    (experts[1].folder / "config.json").unlink()
    with pytest.raises(LoadFailed, match="prepare the expert again"):
        await run(rival, PLAN.questions(Cell("alternating", 2, 4), NAMES, "0"), 4, 2, lambda: None)
    await rival.stop()


async def test_of_processes_that_sleep_one_is_awake(settings: Settings, experts: list[Expert]) -> None:
    rival = SleepAndWake("small", settings.families["small"], settings.logs)
    await rival.hold(experts)
    await rival.hold(experts)
    found = await run(rival, PLAN.questions(Cell("alternating", 2, 4), NAMES, "0"), 4, 2, lambda: None)
    assert len(found.served) == 8
    assert 1 <= found.switching.switches < 8
    states = sorted(engine.state for engine in rival._engines.values())
    assert states == ["asleep", "ready"]
    await rival.stop()


async def test_vllms_sleep_mode_is_measured_on_gpus_alone(settings: Settings, experts: list[Expert]) -> None:
    family = settings.families["small"].model_copy(update={"mode": "interleaved"})
    on_cpu, on_gpu = (SleepAndWake("small", family, settings.logs, where) for where in ("cpu", "cuda"))
    assert on_cpu.unfit(experts) == "vLLM's sleep mode needs a GPU"
    assert on_gpu.unfit(experts) is None
    assert on_gpu._config.extra_args[-1] == "--enable-sleep-mode"
    assert on_gpu._config.mode == "plain"


async def test_processes_are_not_started_where_cores_or_memory_are_short(
    settings: Settings, experts: list[Expert]
) -> None:
    config = FamilyConfig(kv_cache=ByteSize(2**30), simulation=SimulationConfig())
    assert Processes("small", config, settings.logs, cores=2, memory=10**12).unfit(experts) is None
    short_of_cores = Processes("small", config, settings.logs, cores=1, memory=10**12).unfit(experts)
    assert short_of_cores == "2 processes on 1 cores"
    short_of_memory = Processes("small", config, settings.logs, cores=2, memory=10**9).unfit(experts)
    assert short_of_memory == "2 processes need some 3.2 GB, 1.0 GB are free"


async def test_on_a_gpu_processes_have_their_parts_of_it(settings: Settings, experts: list[Expert]) -> None:
    config = FamilyConfig(kv_cache=ByteSize(2**30))
    one, other = (replace(expert, weights_bytes=16 * 10**9) for expert in experts)
    processes = Processes("small", config, settings.logs, cores=2, gpu_bytes=80 * 10**9)
    assert processes.unfit([one, other]) is None
    assert processes._share(2) == {
        "kv_cache": 2**29,
        "extra_args": ("--gpu-memory-utilization", "0.45"),
    }
    small = Processes("small", config, settings.logs, cores=2, memory=10**12, gpu_bytes=24 * 10**9)
    assert small.unfit([one, other]) == "2 processes need some 39.5 GB, 21.6 GB are free"


async def test_with_kvcached_each_process_may_fill_the_whole_pool(
    settings: Settings, experts: list[Expert], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FamilyConfig(kv_cache=ByteSize(2**30))
    rival = Kvcached("small", config, settings.logs, cores=2, gpu_bytes=80 * 10**9)
    assert rival.unfit(experts) == "kvcached is not installed (pip install kvcached --no-build-isolation)"
    (tmp_path / "kvcached.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert rival.unfit(experts) is None
    assert rival._share(2)["kv_cache"] == 2**30


@pytest.mark.parametrize("before", [None, "false"])
def test_kvcached_is_switched_on_for_what_is_started_meanwhile(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is not None:
        monkeypatch.setenv("ENABLE_KVCACHED", before)
    with switched_on():
        assert os.environ["ENABLE_KVCACHED"] == "true"
    assert os.environ.get("ENABLE_KVCACHED") == before


async def test_llama_cpp_without_its_server_is_not_measured(tmp_path: Path, experts: list[Expert]) -> None:
    model = experts[0].folder / "config.json"
    nowhere = LlamaCpp(tmp_path / "nowhere", model, 128, tmp_path).unfit(experts)
    assert nowhere == f"{tmp_path / 'nowhere'}: No such file or directory"
    without = LlamaCpp(Path("/bin/false"), model, 128, tmp_path).unfit(experts)
    assert without == "/bin/false cannot import llama_cpp.server"
    assert (
        LlamaCpp(Path("/bin/true"), None, 128, tmp_path).unfit(experts)
        == "no GGUF file was named (--llama-model)"
    )


async def test_a_llama_cpp_server_that_ends_at_once_says_so(tmp_path: Path, experts: list[Expert]) -> None:
    rival = LlamaCpp(Path("/bin/false"), None, 128, tmp_path)
    with pytest.raises(EngineStartFailed, match="exit code 1"):
        await rival.hold(experts)
    await rival.stop()


async def test_an_error_of_llama_cpp_is_not_an_answer(
    tmp_path: Path, experts: list[Expert], llama_python: Path
) -> None:
    rival = LlamaCpp(llama_python, llama_python, 128, tmp_path)
    await rival.hold(experts[:1])
    rival._experts["law"] = experts[1]  # its server was not told of it
    with pytest.raises(EngineLost, match="400"):
        await run(rival, PLAN.questions(Cell("alternating", 2, 2), NAMES, "0"), 2, 2, lambda: None)
    await rival.stop()
