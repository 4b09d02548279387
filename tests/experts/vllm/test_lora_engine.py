"""A LoRA engine before it starts: its places, its command line, and what it refuses."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from experts.errors import CheckpointMismatch, EngineStartFailed
from experts.spec import Expert, FamilyConfig
from experts.vllm.command import IN_THE_CORE, command
from experts.vllm.environment import environment
from experts.vllm.lora import LoraEngine
from experts.vllm_version import InstalledVllm

CPU = InstalledVllm("cpu", "0.32.0")


def a_base(folder: Path, tied: bool = False) -> Path:
    folder.mkdir()
    shapes = {"model.embed_tokens": (10, 3), "model.layers.0.q_proj": (4, 3), "model.layers.0.o_proj": (3, 4)}
    shapes |= {} if tied else {"lm_head": (10, 3)}
    tensors = {f"{name}.weight": np.ones(shape, np.float16) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def an_adapter(folder: Path, rank: int = 2, module: str = "q_proj", value: float = 1) -> Expert:
    folder.mkdir()
    outputs, inputs = (4, 3) if module == "q_proj" else (3, 4)
    save_file(
        {
            f"base_model.model.model.layers.0.{module}.lora_A.weight": np.full(
                (rank, inputs), value, np.float32
            ),
            f"base_model.model.model.layers.0.{module}.lora_B.weight": np.ones((outputs, rank), np.float32),
        },
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(
        json.dumps({"r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"]})
    )
    return Expert(folder.name, "f", folder, 100, 0, "", "")


def an_engine(tmp_path: Path, *experts: Expert, vllm: InstalledVllm = CPU, **config: Any) -> LoraEngine:
    base = tmp_path / "base"
    family = FamilyConfig.model_validate({"mode": "lora", "base": {"folder": base}, "max_loras": 3} | config)
    return LoraEngine("f", family, tmp_path, base if base.exists() else a_base(base), experts, vllm)


def test_places_fit_the_largest_rank_and_every_module_that_any_adapter_changes(tmp_path: Path) -> None:
    experts = [an_adapter(tmp_path / "a", rank=9), an_adapter(tmp_path / "b", rank=2, module="o_proj")]
    arguments = an_engine(tmp_path, *experts).places.arguments()
    assert arguments[:3] == ["--enable-lora", "--max-lora-rank", "16"]
    assert arguments[-3:] == ["--lora-target-modules", "o_proj", "q_proj"]


def test_an_expert_that_comes_later_has_to_fit_the_places_there_are(tmp_path: Path) -> None:
    engine = an_engine(tmp_path, an_adapter(tmp_path / "a", rank=9))
    engine.check_has_place(an_adapter(tmp_path / "b", rank=16))
    engine.check_has_place(Expert("base", "f", tmp_path / "base", 0, 0, "", ""))
    with pytest.raises(CheckpointMismatch, match="places for rank 16 of q_proj: restart the server"):
        engine.check_has_place(an_adapter(tmp_path / "c", rank=17))
    with pytest.raises(
        CheckpointMismatch, match="changes o_proj; the engine has places for rank 16 of q_proj"
    ):
        engine.check_has_place(an_adapter(tmp_path / "d", rank=2, module="o_proj"))


def test_there_are_two_places_more_than_experts_and_one_is_never_filled(tmp_path: Path) -> None:
    arguments = an_engine(tmp_path).places.arguments()
    assert arguments[arguments.index("--max-loras") + 1] == "5"
    assert arguments[arguments.index("--max-cpu-loras") + 1] == "5"
    assert an_engine(tmp_path).resident_limit == 3


def test_the_server_loads_adapters_while_it_runs(tmp_path: Path) -> None:
    config = FamilyConfig.model_validate(
        {"mode": "lora", "base": {"folder": "/base"}, "extra_args": ["--seed", "1"]}
    )
    arguments = command(config, "lora", "cpu", "law", Path("/base"), ["--enable-lora"])
    assert arguments[-3:] == ["--enable-lora", "--seed", "1"]
    assert "--scheduler-cls" not in arguments
    assert arguments[arguments.index("--distributed-executor-backend") + 1] == IN_THE_CORE
    assert "--distributed-executor-backend" not in command(config, "lora", "cuda", "law", Path("/base"))
    assert environment(config, "lora", "cpu")["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in environment(config, "plain", "cpu")


def test_it_holds_its_base_in_the_computing_type_and_all_places(tmp_path: Path) -> None:
    law = an_adapter(tmp_path / "law")
    places = 5 * 8 * (4 + 3)
    assert an_engine(tmp_path, law).held_bytes == 4 * (84 + places), "float32 on CPU"
    assert an_engine(tmp_path, law, dtype="bfloat16").held_bytes == 2 * (84 + places)
    cuda = InstalledVllm("cuda", "0.32.0")
    assert an_engine(tmp_path, law, vllm=cuda).held_bytes == 2 * (84 + places), "as the checkpoint is"


def test_a_tied_embedding_is_held_twice_on_cpu(tmp_path: Path) -> None:
    a_base(tmp_path / "base", tied=True)
    assert an_engine(tmp_path).held_bytes == 4 * (54 + 30)
    assert an_engine(tmp_path, vllm=InstalledVllm("cuda", "0.32.0")).held_bytes == 2 * 54


def test_a_rank_beyond_vllms_largest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match="rank 513 is over vLLM's 512"):
        an_engine(tmp_path, an_adapter(tmp_path / "law", rank=513))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"value": np.nan}, r"q_proj\.lora_A\.weight has NaN"),
        ({"rank": 9}, "places for rank 8 of q_proj: restart"),
        ({"module": "o_proj"}, "places for rank 8 of q_proj: restart"),
    ],
    ids=["not a number", "rank", "module"],
)
async def test_an_adapter_that_cannot_be_served_is_refused_before_a_process_starts(
    tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    engine = an_engine(tmp_path, an_adapter(tmp_path / "law"))
    bad = an_adapter(tmp_path / "bad", **changed)
    with pytest.raises(EngineStartFailed, match=rf"bad: .*{says}"):
        await engine.start(bad, bad.folder)
    assert engine.state == "stopped"
    assert not (tmp_path / "f.log").exists()


def test_a_vllm_it_was_not_verified_on_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine = an_engine(tmp_path, vllm=InstalledVllm("cpu", "0.33.0"))
    assert engine.mode == "lora"
    assert "vLLM 0.33.0 is installed, LoRA experts are verified on 0.32.*" in caplog.text
