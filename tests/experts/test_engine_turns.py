"""Turns on real vLLM: what switching costs, and that a recorded trace replays to the same decisions."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from experts.inside_vllm.turns import Cost, Limits, Step, replay
from experts.spec import Expert, FamilyConfig
from experts.vllm import VllmEngine

NAMES = ("general", "law", "math", "coding")
STREAMS, TOKENS = 4, 24


@pytest.mark.engine
async def test_sixteen_streams_of_four_experts_switch_for_less_than_the_overhead(
    base_checkpoint: Path, tmp_path: Path
) -> None:
    config = FamilyConfig.model_validate({"max_model_len": 512, "kv_cache": "256MiB"})
    engine = VllmEngine("f", config, tmp_path)
    experts = [expert_at(name, base_checkpoint) for name in NAMES]
    try:
        await engine.start(experts[0], base_checkpoint)
        for expert in experts[1:]:
            await engine.load(expert, base_checkpoint)
        before = await engine.statistics()
        await engine.server.worker("coe_trace", "1000")
        await asyncio.gather(*(stream(engine, name) for name in NAMES for _ in range(STREAMS)))
        recorded = await engine.server.worker("coe_trace", "0")
        after = await engine.statistics()
        assert await engine.server.worker("coe_trace", "0") == {"steps": []}
    finally:
        await engine.stop()

    assert before.busy_seconds is not None
    assert after.busy_seconds is not None
    switching = after.switch_seconds - before.switch_seconds
    assert 0 < switching <= config.switch_overhead * (after.busy_seconds - before.busy_seconds)

    trace = list(steps_of(recorded["steps"]))
    assert sum(step.cost is not None for step in trace) >= len(NAMES) * TOKENS
    assert sum(step.cost.switch_seconds for step in trace if step.cost) == pytest.approx(switching)
    limits = Limits(config.switch_overhead, config.max_turn_wait_s)
    assert replay(limits, trace) == [step.expert for step in trace]


async def stream(engine: VllmEngine, name: str) -> None:
    body = {"prompt": f"{name} says:", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    answer = await engine.request(name, "/v1/completions", body)
    chunks = [chunk async for chunk in answer.chunks()]
    assert chunks[-1].endswith(b"data: [DONE]\n\n")


def steps_of(recorded: Iterable[dict[str, Any]]) -> Iterable[Step]:
    for step in recorded:
        cost = Cost(**step["cost"]) if step["cost"] else None
        yield Step(step["now"], tuple(step["working"]), step["expert"], cost, step["admitting"])


def expert_at(name: str, folder: Path) -> Expert:
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Expert(name, "f", folder, size, size // 4, "fingerprint", "")
