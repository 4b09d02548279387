"""The bytes that an interleaved engine reports for an expert."""

from pathlib import Path
from typing import Any

import pytest

from experts.spec import Expert, FamilyConfig
from experts.vllm.interleaved import InterleavedEngine


class OneServer:
    """Answers for its first worker, as vLLM's server does."""

    async def worker(self, method: str, *arguments: str) -> dict[str, Any]:
        return {"image_bytes": 100}


@pytest.mark.parametrize("ranks", [1, 4])
async def test_an_expert_over_several_gpus_counts_on_each(
    ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FamilyConfig.model_validate({"tensor_parallel_size": ranks})
    engine = InterleavedEngine("f", config, tmp_path)
    monkeypatch.setattr(InterleavedEngine, "server", OneServer())
    assert await engine._held(Expert("e", "f", tmp_path, 400, 200, "", "")) == 100 * ranks
