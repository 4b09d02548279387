"""A family's engine, by its mode and by what its model can."""

import json
from pathlib import Path

import pytest

from experts.spec import Expert
from experts.vllm.engine import VllmEngine
from server.config.settings import Settings
from server.engine_factory import engine_of

CONFIG = {
    "tiers": {"device": "1GB"},
    "families": {"f": {}},
    "experts": {"e": {"family": "f", "checkpoint": {"embedded": "base"}}},
}


@pytest.mark.parametrize(
    ("config", "mode"),
    [({"model_type": "llama"}, "interleaved"), ({"model_type": "deepseek_v2", "kv_lora_rank": 512}, "plain")],
)
def test_a_model_whose_state_would_mix_gets_a_plain_engine(
    config: dict[str, object], mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    engine = engine_of("f", Settings.model_validate(CONFIG), [Expert("e", "f", tmp_path, 1, 1, "", "")])
    assert isinstance(engine, VllmEngine)
    assert engine.mode == mode
    said = "latent attention (MLA)" in "".join(record.getMessage() for record in caplog.records)
    assert said == (mode == "plain")
