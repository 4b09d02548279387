"""Steps that are scheduled before the one in front has given its tokens, in real vLLM on CPU: the scheduler
and the outputs of ``--async-scheduling``, which is for CUDA."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from experts.engines.nursery import Nurseries
from experts.inside_vllm.scheduling.turns import Limits, replay
from experts.spec import Expert, FamilyConfig
from experts.vllm.interleaved import InterleavedEngine
from tests.experts.engines.real_engine import NOISE, Said, ask, expert_at, said_alone, stream
from tests.experts.engines.test_engine_switches import SHORT, steps_of, switches
from tests.plain_vllm import PlainVllm

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
CONFIG = FamilyConfig.model_validate(
    {"dtype": "float32", "max_model_len": 512, "kv_cache": "256MiB", "max_num_seqs": 32}
)
NAMES = ("general", "math", "law")
TOKENS = 16
AHEAD = {
    "experts.inside_vllm.worker.ExpertWorker": "AheadWorker",
    "experts.inside_vllm.scheduling.executor.ExpertExecutor": "AheadExecutor",
}
SCHEDULER = "experts.inside_vllm.scheduling.scheduler."


class AheadEngine(InterleavedEngine):
    def _command(self, config: FamilyConfig, expert: Expert, weights: Path) -> list[str]:
        words = super()._command(config, expert, weights)
        place = words.index(f"{SCHEDULER}ExpertScheduler")
        words[place] = f"{SCHEDULER}AsyncExpertScheduler"
        module = "tests.experts.engines.stepping_ahead"
        return [f"{module}.{AHEAD[word]}" if word in AHEAD else word for word in words]


@pytest.fixture(scope="module")
def alone(store: Path, plain: PlainVllm) -> dict[tuple[str, str], Said]:
    said: dict[tuple[str, str], Said] = {}
    for name in NAMES:
        answers = said_alone(plain, expert_at(name, store / name), SHORT, TOKENS)
        said |= {(name, prompt): answer for prompt, answer in zip(SHORT, answers, strict=True)}
    return said


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(
    store: Path, alone: object, nurseries: Nurseries, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AheadEngine]:
    engine = AheadEngine("ahead", CONFIG, tmp_path_factory.mktemp("logs"), nurseries=nurseries)
    first, *others = (expert_at(name, store / name) for name in NAMES)
    try:
        await engine.start(first, first.folder)
        for expert in others:
            await engine.load(expert, expert.folder)
        yield engine
    finally:
        await engine.stop()


async def test_experts_that_take_turns_say_what_unmodified_vllm_says(
    engine: AheadEngine, alone: dict[tuple[str, str], Said]
) -> None:
    begun = await switches(engine)
    await engine.server.worker("coe_trace", "1000")
    asked = [(name, prompt) for prompt in SHORT for name in NAMES]
    said = await asyncio.gather(*(ask(engine, *each, TOKENS) for each in asked))
    recorded = await engine.server.worker("coe_trace", "0")
    for each, answer in zip(asked, said, strict=True):
        assert answer.tokens == alone[each].tokens
        assert answer.noise(alone[each]) < NOISE
    assert await switches(engine) - begun > TOKENS
    trace = list(steps_of(recorded["steps"]))
    ahead = sum(step.behind == 1 and step.cost is not None for step in trace)
    assert ahead > len(trace) / 2, "steps were scheduled before the one in front had ended"
    assert replay(Limits(CONFIG.switch_overhead, CONFIG.max_turn_wait_s), trace) == [
        step.expert for step in trace
    ]


async def test_answers_that_end_early_or_are_left_do_not_disturb_the_others(
    engine: AheadEngine, alone: dict[tuple[str, str], Said]
) -> None:
    async def left(name: str, prompt: str, after: int) -> None:
        async for said in stream(engine, name, prompt, 100):
            if len(said.tokens) >= after:
                return

    asked = [(name, prompt) for prompt in SHORT[:4] for name in NAMES]
    leaving = [left(name, SHORT[5 + number], number + 1) for number, name in enumerate(NAMES)]
    short = [ask(engine, name, SHORT[4], tokens) for name in NAMES for tokens in (1, 2, 3)]
    beside = asyncio.gather(*leaving, *short)
    said = await asyncio.gather(*(ask(engine, *each, TOKENS) for each in asked))
    await beside
    assert [answer.tokens for answer in said] == [alone[each].tokens for each in asked]


async def test_an_expert_goes_and_comes_back_between_steps(
    engine: AheadEngine, store: Path, alone: dict[tuple[str, str], Said]
) -> None:
    law = expert_at("law", store / "law")
    others = [asyncio.create_task(ask(engine, "math", prompt, TOKENS)) for prompt in SHORT[:4]]
    await asyncio.sleep(0)
    await engine.unload("law")
    await engine.load(law, law.folder)
    said = [await other for other in others]
    assert [answer.tokens for answer in said] == [alone["math", prompt].tokens for prompt in SHORT[:4]]
    assert (await ask(engine, "law", SHORT[0], TOKENS)).tokens == alone["law", SHORT[0]].tokens
