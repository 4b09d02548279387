"""vLLM's real scheduler under ours, with a worker that answers every request with token 7."""

import pickle
import warnings
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from experts.inside_vllm.scheduling.turns import Cost, Limits, Trace, replay

BLOCK = 16
OVERHEAD = 0.5
MAX_TURN_WAIT_S = 60.0
Build = Callable[..., "Pool"]


class Pool:
    """A scheduler over ``blocks`` blocks of KV cache; ``step`` computes one step and remembers for whom.

    A step says that it took a second, and a switch costs what ``quantum`` steps pay for. ``ahead``: a step is
    scheduled before the one in front of it has given its tokens.
    """

    def __init__(self, config: Any, blocks: int, quantum: int, *, ahead: bool) -> None:
        import torch
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.structured_output import StructuredOutputManager

        from experts.inside_vllm.scheduling.scheduler import AsyncExpertScheduler, ExpertScheduler

        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(BLOCK, sha256)
        self._config = config
        config.cache_config.num_gpu_blocks = blocks
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=1, dtype=torch.float32)
        config.scheduler_config.async_scheduling = ahead  # which vLLM turns off on CPU
        self._ahead = ahead
        self.scheduler = (AsyncExpertScheduler if ahead else ExpertScheduler)(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(
                num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
            ),
            structured_output_manager=StructuredOutputManager(config),
            block_size=BLOCK,
        )
        self._switch_s = quantum * OVERHEAD
        self._holds: str | None = None
        self._under_way: deque[tuple[Any, Any]] = deque()
        self._in_batch: set[str] = set()
        self.steps: list[tuple[str | None, int]] = []
        self.resent: dict[str, list[int]] = {}
        """The tokens that workers were sent of requests that they know."""
        self.tokens: Counter[str] = Counter()
        self.finished: dict[str, str] = {}

    def add(self, name: str, expert: str, prompt: int = 8, answer: int = 4) -> None:
        from vllm import SamplingParams
        from vllm.v1.request import Request

        parameters = SamplingParams(max_tokens=answer, ignore_eos=True, extra_args={"expert": expert})
        request = Request(
            request_id=name,
            prompt_token_ids=[sum(map(ord, name)) % 1000 + at for at in range(prompt)],
            sampling_params=parameters,
            pooling_params=None,
            block_hasher=self._hasher,
            cache_salt=expert,
        )
        self.scheduler.add_request(request)

    def resident(self, *names: str) -> None:
        self._config.additional_config["resident"] = list(names)

    def record(self, most: int) -> Trace:
        trace = Trace(most)
        self._config.additional_config["trace"] = trace
        return trace

    def step(self) -> None:
        from vllm.v1.outputs import ModelRunnerOutput

        output = self.scheduler.schedule()
        scheduled = list(output.num_scheduled_tokens)
        expert = output.coe_expert
        if self._ahead:
            self._check_resent(output.scheduled_cached_reqs)
            self._in_batch = set(scheduled)
        self.resent |= output.scheduled_cached_reqs.all_token_ids
        assert {self._expert_of(name) for name in scheduled} <= {expert}
        self.steps.append((expert, len(scheduled)))
        answers = [
            [7] if self._requests[name].num_computed_tokens >= self._requests[name].num_tokens else []
            for name in scheduled
        ]
        computed = ModelRunnerOutput(
            req_ids=scheduled,
            req_id_to_index={name: index for index, name in enumerate(scheduled)},
            sampled_token_ids=answers,
        )
        if scheduled:
            switching = 0.0 if expert == self._holds else self._switch_s
            computed.coe_cost = Cost(1.0, switching)
            self._holds = expert
        self._under_way.append((output, computed))
        if len(self._under_way) > self._ahead or not self.scheduler.has_requests():
            self._settle()

    def _settle(self) -> None:
        for batch in self.scheduler.update_from_output(*self._under_way.popleft()).values():
            for got in batch.outputs:
                self.tokens[got.request_id] += len(got.new_token_ids)
                if got.finish_reason is not None:
                    self.finished[got.request_id] = str(got.finish_reason)

    def run(self, most_steps: int = 2000) -> None:
        for _ in range(most_steps):
            if not self.scheduler.has_requests():
                while self._under_way:
                    self._settle()
                return
            self.step()
        raise AssertionError(f"unfinished after {most_steps} steps: {self.scheduler.get_request_counts()}")

    def _check_resent(self, cached: Any) -> None:
        """Checks what an asynchronous runner takes for granted: of each request that was not in the step
        before it is sent every token there is."""
        for name, answered in zip(cached.req_ids, cached.num_output_tokens, strict=True):
            if name not in self._in_batch and answered:
                known = cached.all_token_ids[name]
                assert len(known) == self._requests[name].num_prompt_tokens + answered

    @property
    def order(self) -> str:
        return "".join(expert or "-" for expert, computed in self.steps if computed)

    @property
    def _requests(self) -> dict[str, Any]:
        requests: dict[str, Any] = self.scheduler.requests
        return requests

    def _expert_of(self, name: str) -> str:
        return str(self._requests[name].sampling_params.extra_args["expert"])


@pytest.fixture(scope="module")
def build(base_checkpoint: Path) -> Build:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM's imports
        from vllm.engine.arg_utils import EngineArgs

    def pool(
        blocks: int = 1000,
        quantum: int = 2,
        seqs: int = 8,
        resident: Sequence[str] = "abc",
        tokens: int = 512,
        ahead: bool = False,
    ) -> Pool:
        config = EngineArgs(
            model=str(base_checkpoint),
            dtype="float32",
            max_model_len=512,
            max_num_seqs=seqs,
            block_size=BLOCK,
            enforce_eager=True,
            max_num_batched_tokens=tokens,
            async_scheduling=False,
            additional_config={
                "resident": list(resident),
                "switch_overhead": OVERHEAD,
                "max_turn_wait_s": MAX_TURN_WAIT_S,
            },
        ).create_engine_config()
        return Pool(config, blocks, quantum, ahead=ahead)

    return pool


pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_step_computes_for_one_expert(build: Build) -> None:
    pool = build()
    for number in range(3):
        pool.add(f"a{number}", "a")
        pool.add(f"b{number}", "b")
    pool.run()
    assert pool.order == "aabbaabb"
    assert all(computed == 3 for _, computed in pool.steps if computed)
    assert set(pool.finished.values()) == {"length"}


def test_a_switch_sends_workers_no_tokens_that_they_have(build: Build) -> None:
    pool = build(blocks=21, seqs=4)
    for expert in "ab":
        pool.add(f"{expert}0", expert, prompt=64, answer=20)
    pool.run()
    assert pool.order.startswith("aabbaabb")
    assert pool.resent == {}
    for expert in "ab":  # the pool has no room for both: vLLM preempts one, and workers forget it
        pool.add(f"{expert}1", expert, prompt=64, answer=200)
    pool.run()
    assert pool.tokens == {"a0": 20, "b0": 20, "a1": 200, "b1": 200}
    assert set(pool.resent) & {"a1", "b1"}


def test_a_block_is_zeroed_before_a_request_gets_it_unless_it_holds_its_prefix(build: Build) -> None:
    pool = build(blocks=8)
    pool.add("a0", "a", prompt=3 * BLOCK)
    pool.run()
    pool.add("b0", "b", prompt=3 * BLOCK)  # takes blocks that a0 has left
    pool.run()
    pool.add("b0", "b", prompt=3 * BLOCK)
    output = pool.scheduler.schedule()
    (request,) = output.scheduled_new_reqs
    (blocks,) = request.block_ids
    known = request.num_computed_tokens // BLOCK
    assert known == 2
    assert output.new_block_ids_to_zero == blocks[known:]


def test_requests_that_piled_up_for_an_expert_are_admitted_in_one_turn(build: Build) -> None:
    pool = build(quantum=1, tokens=64)
    pool.add("a0", "a", answer=30)
    pool.step()
    for number in range(4):
        pool.add(f"b{number}", "b", prompt=60, answer=20)
    pool.step()
    pool.add("b4", "b", prompt=60, answer=20)
    for _ in range(7):
        pool.step()
    assert pool.order == "abbbbabab", "b4 came during the turn and does not make it longer"
    pool.run()
    assert set(pool.finished.values()) == {"length"}


def test_a_prompt_of_many_chunks_is_not_chunked_over_many_turns(build: Build) -> None:
    pool = build(quantum=1, tokens=64)
    pool.add("a0", "a", answer=30)
    pool.step()
    pool.add("b0", "b", prompt=300, answer=4)
    pool.run()
    assert "abbbbbab" in pool.order


def test_requests_that_cannot_be_admitted_make_a_turn_one_step_longer_at_most(build: Build) -> None:
    pool = build(quantum=1, seqs=2)
    pool.add("a0", "a", answer=10)
    for number in range(4):
        pool.add(f"b{number}", "b", answer=4)
    for _ in range(6):
        pool.step()
    assert pool.order == "abbaba"


def test_a_step_without_a_cost_counts_as_paid_for(build: Build) -> None:
    pool = build(quantum=0)
    pool.add("a0", "a")
    pool.add("b0", "b")
    pool.run()
    assert pool.order == "abababab"


def test_decisions_recorded_from_any_step_on_replay(build: Build) -> None:
    pool = build(blocks=20, tokens=64)
    for name in ("a0", "a1", "b0", "b1", "c0", "c1"):
        pool.add(name, name[0], prompt=60, answer=40)
    for _ in range(5):
        pool.step()
    trace = pool.record(100)
    pool.run()
    decisions = [step.expert for step in trace.steps]
    assert decisions == [expert for expert, _ in pool.steps[5:105]]
    assert replay(Limits(OVERHEAD, MAX_TURN_WAIT_S), trace.steps) == decisions


def test_what_a_step_cost_survives_the_way_from_a_worker_process() -> None:
    from vllm.v1.outputs import ModelRunnerOutput

    output = ModelRunnerOutput(req_ids=["a"], req_id_to_index={"a": 0})
    output.coe_cost = Cost(0.03, 0.001)
    assert pickle.loads(pickle.dumps(output, protocol=5)).coe_cost == Cost(0.03, 0.001)


def test_requests_of_one_expert_are_admitted_first_come_first_served(build: Build) -> None:
    pool = build(seqs=1, quantum=3)
    for number in range(4):
        pool.add(f"a{number}", "a")
        pool.add(f"b{number}", "b")
    pool.run()
    assert [name for name in pool.finished if name[0] == "a"] == ["a0", "a1", "a2", "a3"]
    assert [name for name in pool.finished if name[0] == "b"] == ["b0", "b1", "b2", "b3"]


def test_an_expert_that_is_not_resident_gets_an_error_and_the_others_go_on(build: Build) -> None:
    pool = build(resident="a")
    pool.add("a0", "a")
    pool.add("x0", "x")
    pool.add("nameless", "")
    pool.run()
    assert pool.finished == {"x0": "error", "nameless": "error", "a0": "length"}
    assert pool.order == "aaaa"


def test_running_requests_of_an_expert_that_is_unloaded_end_with_an_error(build: Build) -> None:
    pool = build()
    pool.add("a0", "a", answer=50)
    pool.add("b0", "b", answer=6)
    for _ in range(3):
        pool.step()
    pool.resident("b")
    pool.run()
    assert pool.finished == {"a0": "error", "b0": "length"}
    assert pool.scheduler.get_num_unfinished_requests() == 0


def test_a_request_aborted_while_hidden_leaves_nothing(build: Build) -> None:
    from vllm.v1.request import RequestStatus

    pool = build()
    for name in ("a0", "b0", "b1"):
        pool.add(name, name[0], answer=20)
    for _ in range(5):
        pool.step()
    assert pool.steps[-1][0] == "a"
    pool.scheduler.finish_requests(["b0"], RequestStatus.FINISHED_ABORTED)
    pool.run()
    assert pool.finished == {"a0": "length", "b1": "length"}
    assert pool.scheduler.kv_cache_manager.usage == 0


def test_hidden_requests_count_as_unfinished(build: Build) -> None:
    pool = build()
    pool.add("a0", "a")
    pool.add("b0", "b")
    pool.step()
    assert pool.scheduler.get_num_unfinished_requests() == 2


def test_a_pool_filled_by_a_hidden_expert_makes_the_other_wait_for_it_only(build: Build) -> None:
    """a takes nearly all blocks; b, which cannot get in, is served as soon as a's first request ends."""
    pool = build(blocks=12)
    pool.add("a0", "a", prompt=120, answer=20)
    pool.step()
    pool.add("b0", "b", prompt=100, answer=4)
    for number in range(1, 6):
        pool.add(f"a{number}", "a", prompt=120, answer=20)
    pool.run()
    assert list(pool.finished)[:2] == ["a0", "b0"], "nobody overtakes who is blocked"
    assert len(pool.finished) == 7


def test_experts_that_outgrow_the_pool_together_preempt_and_all_finish(build: Build) -> None:
    pool = build(blocks=20, quantum=4)
    for name in ("a0", "a1", "b0", "b1", "c0", "c1"):
        pool.add(name, name[0], prompt=60, answer=150)
    pool.run(8000)
    assert set(pool.finished.values()) == {"length"}
    assert set(pool.tokens.values()) == {150}
    assert pool.scheduler.kv_cache_manager.usage == 0


# A step is scheduled before the one in front of it has given its tokens.


def test_ahead_a_step_computes_for_one_expert_and_turns_are_the_same(build: Build) -> None:
    pool = build(ahead=True)
    for number in range(3):
        pool.add(f"a{number}", "a", answer=12)
        pool.add(f"b{number}", "b", answer=12)
    pool.run()
    assert "aaabbbaaabbb" in pool.order, "once the cost of a switch is known"
    assert set(pool.tokens.values()) == {12}
    assert set(pool.finished.values()) == {"length"}
    assert pool.resent, "a runner that is asynchronous forgets who is hidden"


def test_ahead_an_expert_whose_last_tokens_are_under_way_does_not_hold_up_the_other(build: Build) -> None:
    pool = build(ahead=True, quantum=8)
    pool.add("a0", "a", answer=2)
    pool.add("b0", "b", answer=2)
    pool.run()
    assert all(computed for _, computed in pool.steps[:4])
    assert pool.tokens == {"a0": 2, "b0": 2}


def test_ahead_experts_that_outgrow_the_pool_together_preempt_and_all_finish(build: Build) -> None:
    pool = build(blocks=20, quantum=4, ahead=True)
    for name in ("a0", "a1", "b0", "b1", "c0", "c1"):
        pool.add(name, name[0], prompt=60, answer=150)
    pool.run(8000)
    assert set(pool.finished.values()) == {"length"}
    assert set(pool.tokens.values()) == {150}
    assert pool.scheduler.kv_cache_manager.usage == 0


def test_ahead_who_is_aborted_or_loses_its_expert_with_a_step_under_way_leaves_nothing(build: Build) -> None:
    from vllm.v1.request import RequestStatus

    pool = build(ahead=True)
    for name in ("a0", "b0", "b1", "c0"):
        pool.add(name, name[0], answer=20)
    for _ in range(5):
        pool.step()
    pool.scheduler.finish_requests(["b0"], RequestStatus.FINISHED_ABORTED)
    pool.resident("a", "b")
    pool.run()
    assert pool.finished == {"c0": "error", "a0": "length", "b1": "length"}
    assert pool.scheduler.kv_cache_manager.usage == 0


def test_ahead_decisions_recorded_with_a_step_under_way_replay(build: Build) -> None:
    pool = build(blocks=20, tokens=64, ahead=True)
    for name in ("a0", "a1", "b0", "b1", "c0", "c1"):
        pool.add(name, name[0], prompt=60, answer=40)
    for _ in range(5):
        pool.step()
    trace = pool.record(100)
    pool.run()
    decisions = [step.expert for step in trace.steps]
    assert decisions == [expert for expert, _ in pool.steps[5:105]]
    assert replay(Limits(OVERHEAD, MAX_TURN_WAIT_S), trace.steps) == decisions
