"""Hundreds of switches under load on real vLLM: nobody notices them, they cost little and can be replayed.

The answers to compare with are those of unmodified vLLM, which holds one expert and is asked one prompt at a
time. Tests share the engines and run in the order of this file.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio
from safetensors.numpy import load_file, save_file

from experts.engines.nursery import Nurseries
from experts.inside_vllm.scheduling.turns import Cost, Limits, Step, replay
from experts.spec import Expert, FamilyConfig
from experts.vllm.engine import VllmEngine
from experts.vllm.modes import full_weights_engine
from memory_tiers.driver.host_store import HostStore
from tests.conftest import EMBEDDED, NIGHT
from tests.experts.engines.real_engine import NOISE, Said, ask, expert_at, processes, said_alone
from tests.plain_vllm import PlainVllm

pytestmark = pytest.mark.engine

CONFIG = FamilyConfig.model_validate(
    {"dtype": "float32", "max_model_len": 512, "kv_cache": "256MiB", "max_num_seqs": 32}
)
SWITCHES = 2000 if NIGHT else 1000
WARM = 650
"""Switches after which the engine has taken the memory that it keeps."""
STREAMS = 24
TOKENS = 16
BLOCK = 128
"""Tokens in a block of the KV pool, which prefixes are shared by."""
GROWTH_BYTES = 32 * 2**20
"""Noise: from -13 to +11 MiB were seen. An expert has 620 MiB."""

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
SHORT = tuple(
    TEMPLATE.format(question)
    for question in (
        "How do I sort a list in Python?",
        "What are the symptoms of pneumonia?",
        "Can my landlord evict me without notice?",
        "Explain in two sentences why the sky is blue.",
        "Tell me a long story about a fox and a crow.",
        "Explain how a bicycle works.",
        "What should I know before I rent a flat?",
        "What is the area of a circle with radius 3?",
    )
)
LONG = TEMPLATE.format(
    "Here is a list of things to sell: "
    + ", ".join(f"{number} bags of item number {number * 7}" for number in range(1, 36))
    + ". Which of them is the first?"
)
PROMPTS = (*SHORT, LONG)


@dataclass
class Load:
    """What many streams at once were answered."""

    answers: list[tuple[str, str, Said]] = field(default_factory=list)
    """Expert, prompt, answer."""
    switches: int = 0
    grown_bytes: int = 0
    """Growth of all processes' memory from the warm engine to the last switch."""


@pytest.fixture(scope="module")
def experts(store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Expert]:
    """Six of one family: the five embedded ones, and one with noise on its feed-forward weights."""
    folder = tmp_path_factory.mktemp("noisy") / "checkpoint"
    shutil.copytree(store / "general", folder)
    tensors = load_file(folder / "model.safetensors")
    noise = np.random.default_rng(7)
    for name in sorted(tensors):
        if "mlp" in name:
            spread = 0.1 * tensors[name].std()
            tensors[name] += spread * noise.standard_normal(tensors[name].shape, dtype=np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return [*(expert_at(name, store / name) for name in EMBEDDED), expert_at("noisy", folder)]


@pytest.fixture(scope="module")
def alone(experts: list[Expert], plain: PlainVllm) -> Mapping[tuple[str, str], Said]:
    said: dict[tuple[str, str], Said] = {}
    for expert in experts:
        answers = said_alone(plain, expert, PROMPTS, TOKENS)
        said |= {(expert.name, prompt): answer for prompt, answer in zip(PROMPTS, answers, strict=True)}
    return said


@pytest.fixture(scope="module")
def host() -> Iterator[HostStore]:
    host = HostStore()
    yield host
    host.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(
    experts: list[Expert],
    alone: object,
    host: HostStore,
    nurseries: Nurseries,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[VllmEngine]:
    """All six resident; ``alone`` comes first so that two engines never compute at once."""
    engine = full_weights_engine("f", CONFIG, tmp_path_factory.mktemp("logs"), nurseries=nurseries)
    try:
        await engine.start(experts[0], experts[0].folder)
        for expert in experts[1:]:
            await engine.load(expert, expert.folder, host.images(expert.name))
        yield engine
    finally:
        await engine.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def load(engine: VllmEngine, experts: list[Expert]) -> Load:
    """Round after round of streams of all experts at once, each with another prompt than in the round before,
    until the engine has switched often enough."""
    load = Load()
    begun, warm, rounds = await switches(engine), 0, 0
    while load.switches < SWITCHES:
        asked = [
            (experts[number % len(experts)].name, PROMPTS[(rounds + number // len(experts)) % len(PROMPTS)])
            for number in range(STREAMS)
        ]
        said = await asyncio.gather(*(ask(engine, *each, TOKENS) for each in asked))
        load.answers += [(*each, answer) for each, answer in zip(asked, said, strict=True)]
        rounds += 1
        load.switches = await switches(engine) - begun
        if not warm and load.switches > WARM:
            warm = memory(engine)
    load.grown_bytes = memory(engine) - warm
    return load


async def switches(engine: VllmEngine) -> int:
    return (await engine.statistics()).switches


def memory(engine: VllmEngine) -> int:
    """Bytes that only the engine's processes use, images they have mapped included."""
    return sum(psutil.Process(pid).memory_full_info().uss for pid in processes(engine))


def test_what_the_experts_say_alone_differs(
    alone: Mapping[tuple[str, str], Said], experts: list[Expert]
) -> None:
    for prompt in PROMPTS:
        assert len({tuple(alone[expert.name, prompt].tokens) for expert in experts}) >= 5


def test_under_many_switches_every_answer_is_the_one_given_alone(
    alone: Mapping[tuple[str, str], Said], load: Load
) -> None:
    assert load.switches >= SWITCHES
    wrong = [
        (expert, prompt, said.tokens, alone[expert, prompt].tokens)
        for expert, prompt, said in load.answers
        if said.tokens != alone[expert, prompt].tokens
    ]
    assert wrong == []


def test_probabilities_under_load_are_those_of_the_expert_alone_but_for_noise(
    alone: Mapping[tuple[str, str], Said], load: Load
) -> None:
    noise = max(said.noise(alone[expert, prompt]) for expert, prompt, said in load.answers)
    assert noise < NOISE


def test_switching_leaves_no_memory_behind(load: Load) -> None:
    assert load.grown_bytes < GROWTH_BYTES


@pytest.mark.asyncio(loop_scope="module")
async def test_an_experts_prefixes_survive_switches_and_are_its_own(
    engine: VllmEngine, alone: Mapping[tuple[str, str], Said]
) -> None:
    first, second, *others = EMBEDDED
    prompt = LONG.replace("sell", "buy")

    async def asked(name: str) -> Said:
        return await ask(engine, name, prompt, TOKENS)

    before = {name: await asked(name) for name in (first, second)}
    assert before[first].prompt_tokens > 3 * BLOCK
    assert [said.cached_tokens for said in before.values()] == [0, 0], "the other's are not for it"

    begun = await switches(engine)
    beside = [ask(engine, name, prompt, TOKENS) for name in others for prompt in SHORT[:2]]
    *crowd, again, other = await asyncio.gather(*beside, asked(first), asked(second))
    assert await switches(engine) - begun > TOKENS
    assert (again.cached_tokens, other.cached_tokens) == (3 * BLOCK, 3 * BLOCK)
    assert (again.tokens, other.tokens) == (before[first].tokens, before[second].tokens)
    assert max(again.noise(before[first]), other.noise(before[second])) < NOISE
    asked_beside = [(name, prompt) for name in others for prompt in SHORT[:2]]
    assert [said.tokens for said in crowd] == [alone[each].tokens for each in asked_beside]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_recorded_trace_has_all_switches_and_replays_to_the_same_turns(engine: VllmEngine) -> None:
    names, tokens = tuple(EMBEDDED)[:4], 24
    before = await engine.statistics()
    await engine.server.worker("coe_trace", "1000")
    await asyncio.gather(*(ask(engine, name, prompt, tokens) for name in names for prompt in SHORT[:4]))
    recorded = await engine.server.worker("coe_trace", "0")
    after = await engine.statistics()
    assert (await engine.server.worker("coe_trace", "0"))["steps"] == []

    switching = after.switch_seconds - before.switch_seconds
    assert switching > 0
    trace = list(steps_of(recorded["steps"]))
    assert sum(step.cost is not None for step in trace) >= len(names) * tokens
    assert sum(step.cost.switch_seconds for step in trace if step.cost) == pytest.approx(switching)
    limits = Limits(CONFIG.switch_overhead, CONFIG.max_turn_wait_s)
    assert replay(limits, trace) == [step.expert for step in trace]


def steps_of(recorded: Iterable[dict[str, Any]]) -> Iterable[Step]:
    for step in recorded:
        cost = Cost(**step["cost"]) if step["cost"] else None
        yield Step(**{**step, "working": tuple(step["working"]), "cost": cost})
