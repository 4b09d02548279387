"""An engine proves itself at its start: on a stand-in for vLLM's server, and in bfloat16 for real."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from safetensors.numpy import save_file

from experts.checkpoints.prepare import prepare
from experts.engines.computing_type import computes_bfloat16
from experts.errors import EngineStartFailed, LoadFailed
from experts.spec import Canary, Expert, FamilyConfig
from experts.vllm.engine import VllmEngine
from experts.vllm.modes import full_weights_engine
from experts.vllm_version import InstalledVllm
from tests.conftest import embedded_expert

CANARY = Canary((1, 2), (3, 4, 5, 6), (-1.0, -1.0, -1.0, -1.0))
STAND_IN = """
import json, os, signal, sys
from aiohttp import web

def option(name):
    return sys.argv[sys.argv.index(name) + 1]

behaviour = json.load(open({file!r}))[option("--dtype")]
if behaviour == "illegal instruction":
    os.kill(os.getpid(), signal.SIGILL)
if behaviour == "no such file":
    sys.exit("config.json: no such file")

async def health(request):
    return web.Response()

async def completions(request):
    asked = await request.json()
    if behaviour == "dies":
        os._exit(1)
    if "echo" not in asked:
        return web.json_response({{}})
    tokens = [*asked["prompt"], 5, 6]
    top = [None] + [{{f"token_id:{{token}}": -1.0 + behaviour}} for token in tokens[1:]]
    return web.json_response({{"choices": [{{"logprobs": {{"top_logprobs": top}}}}]}})

app = web.Application()
app.add_routes([web.get("/health", health), web.post("/v1/completions", completions)])
web.run_app(app, path=option("--uds"), print=None)
"""
Start = Callable[..., VllmEngine]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """``engine(dtype, bfloat16=..., float32=...)``: how far off it is in a type, or what it does."""
    package = tmp_path / "python" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "python"), prepend=":")

    def made(dtype: str, **behaviour: float | str) -> VllmEngine:
        (tmp_path / "behaviour.json").write_bytes(orjson.dumps(behaviour))
        (package / "api_server.py").write_text(STAND_IN.format(file=str(tmp_path / "behaviour.json")))
        config = FamilyConfig.model_validate({"mode": "plain", "dtype": dtype})
        return full_weights_engine(
            "f", config, tmp_path / "logs", InstalledVllm("cpu", "0.32.0"), native_bfloat16=True
        )

    return made


@pytest.fixture
def expert(tmp_path: Path) -> Expert:
    folder = tmp_path / "law"
    folder.mkdir()
    save_file({"weight": np.zeros(4, np.float32)}, folder / "model.safetensors")
    return Expert("law", "f", folder, 16, 4, "fingerprint", "", canary=CANARY)


async def test_auto_is_bfloat16_where_that_proves_right(
    engine: Start, expert: Expert, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "experts.vllm.server_life")
    started = engine("auto", bfloat16=0.05, float32=0.0)
    try:
        await started.start(expert, expert.folder)
        assert (started.state, started.dtype) == ("ready", "bfloat16")
        assert [record.getMessage() for record in caplog.records] == [
            "family f: the engine computes in bfloat16"
        ]
    finally:
        await started.stop()


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (-7.0, "log-probability -1.000 and has -8.000"),
        ("illegal instruction", "SIGILL"),
        ("dies", "did not answer"),
    ],
)
async def test_auto_falls_back_to_float32_says_so_once_and_stays_there(
    engine: Start, expert: Expert, behaviour: float | str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    started = engine("auto", bfloat16=behaviour, float32=0.0)
    try:
        for _ in range(2):
            await started.start(expert, expert.folder)
            assert (started.state, started.dtype) == ("ready", "float32")
            await started.stop()
    finally:
        await started.stop()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "bfloat16 does not prove right, starting again in float32" in warning
    assert said in warning


async def test_what_is_wrong_in_float32_too_does_not_start(engine: Start, expert: Expert) -> None:
    started = engine("auto", bfloat16=-7.0, float32=-7.0)
    with pytest.raises(
        EngineStartFailed, match="engine of f: law: its canary fails in float32: token 1 of 4"
    ):
        await started.start(expert, expert.folder)
    assert started.state == "stopped"


async def test_a_start_that_fails_for_another_reason_is_not_tried_in_float32(
    engine: Start, expert: Expert, caplog: pytest.LogCaptureFixture
) -> None:
    started = engine("auto", bfloat16="no such file", float32=0.0)
    with pytest.raises(EngineStartFailed, match="no such file"):
        await started.start(expert, expert.folder)
    assert caplog.text == ""


async def test_a_type_that_was_chosen_is_not_changed(engine: Start, expert: Expert) -> None:
    started = engine("bfloat16", bfloat16=-7.0, float32=0.0)
    with pytest.raises(EngineStartFailed, match=r"fails in bfloat16: .* set dtype: float32 for its family"):
        await started.start(expert, expert.folder)


async def test_without_a_canary_auto_is_float32(engine: Start, expert: Expert) -> None:
    started = engine("auto", bfloat16=0.0, float32=0.0)
    try:
        await started.start(replace(expert, canary=None), expert.folder)
        assert started.dtype == "float32"
    finally:
        await started.stop()


@pytest.mark.engine
async def test_bfloat16_proves_right_here_and_experts_taken_for_another_do_not_load(
    store: Path, tmp_path: Path
) -> None:
    if not computes_bfloat16():
        pytest.skip("this processor has no AVX512-BF16")
    general, law, math = (prepare(name, embedded_expert(name), store) for name in ("general", "law", "math"))
    config = FamilyConfig.model_validate({"max_model_len": 512, "kv_cache": "256MiB", "max_num_seqs": 32})
    started = full_weights_engine("f", config, tmp_path)
    try:
        loaded = await started.start(general, general.folder)
        assert started.dtype == "bfloat16"
        assert loaded.bytes < 0.7 * general.weights_bytes, (
            "half of the float32 checkpoint and its embedding twice"
        )
        await started.load(law, law.folder)
        with pytest.raises(LoadFailed, match="math: its canary fails in bfloat16"):
            await started.load(math, law.folder)
        assert set((await started.statistics()).resident) == {"general", "law"}
        await started.load(math, math.folder)
    finally:
        await started.stop()
