"""A vLLM scheduler that lets each step compute for one expert only.

Around vLLM's own ``schedule()`` the requests of the other experts are taken out of its queues; their KV
blocks stay, and so does their state in the model runner. Only the order of requests of the *same* expert
matters to ``schedule()``, so requests shown again go behind those just scheduled.

1. *Not resident.* Requests whose expert the workers do not hold end with an error and are never scheduled.
2. *KV pool full.* When the active expert can compute nothing, it gives up its turn, and no other expert's
   waiting requests are admitted until one of its own has been. Those running end one after another (or vLLM
   preempts them for want of blocks, on their own expert's turn), so the pool drains towards the blocked one.

Asynchronously (``--async-scheduling``) a step is scheduled before the one in front of it has given its
tokens, and after all earlier ones have. A request that was hidden is in none that has not: so all its tokens
are known when it is shown again, and the runner, which forgets whom it does not compute for, is sent them.

A block of the KV pool is zeroed before a request gets it, by what vLLM has for Mamba layers. Attention reads
whole blocks: NaN that an expert with broken weights has left there would spoil the next expert's answer.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

from vllm.logger import init_logger
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from experts.inside_vllm.scheduling.turns import Cost, Limits, Step, Trace, Turns

logger = init_logger(__name__)


def expert_of(request: Request) -> str:
    """Returns the expert that a request names in ``vllm_xargs``; empty when it names none."""
    parameters = request.sampling_params
    return str((parameters.extra_args or {}).get("expert", "")) if parameters else ""


def _prefills(request: Request, expert: str | None) -> bool:
    """Tells whether a request of ``expert`` has a prompt that is not computed to the end."""
    return expert_of(request) == expert and request.num_computed_tokens < request.num_prompt_tokens


def _needs_steps(request: Request) -> bool:
    """Tells whether a running request needs another step. Asynchronously all that is left of one may be under
    way; vLLM's ``schedule()`` passes over it by the same sum."""
    ahead = request.num_output_placeholders
    most = request.num_prompt_tokens + request.max_tokens
    return bool(ahead == 0 or request.num_computed_tokens + 2 - ahead < most)


class ZeroedPool(KVCacheConfig):
    """A KV pool whose blocks are zeroed before a request gets them."""

    needs_kv_cache_zeroing = True


class ExpertScheduler(Scheduler):
    """Reads ``switch_overhead`` and ``max_turn_wait_s`` in ``additional_config``, and what the executor keeps
    there: ``resident`` and ``trace``."""

    runner_forgets = False
    """Whether the model runner forgets the tokens of requests that it does not compute for."""
    running: list[Request]
    prev_step_scheduled_req_ids: set[str]

    def __init__(self, vllm_config: Any, kv_cache_config: KVCacheConfig, *args: Any, **kwargs: Any) -> None:
        same = {field.name: getattr(kv_cache_config, field.name) for field in fields(kv_cache_config)}
        super().__init__(vllm_config, ZeroedPool(**same), *args, **kwargs)
        ours = self.vllm_config.additional_config
        self._limits = Limits(ours["switch_overhead"], ours["max_turn_wait_s"])
        self._turns = Turns(self._limits)
        self._under_way: deque[tuple[Turns, Step]] = deque()
        self._trace: Trace | None = None
        self._newcomers: set[str] = set()
        self._blocked: str | None = None
        self._refused: list[Request] = []

    def schedule(self, *args: Any, **kwargs: Any) -> SchedulerOutput:
        self._refuse_not_resident()
        self._begin_trace()
        working = self._working()
        before, now, behind = self._turns.active, time.perf_counter(), self._turns.under_way
        expert = self._turns.next(now, working)
        if expert != before:
            self._newcomers = {r.request_id for r in self._unfinished() if _prefills(r, expert)}
        with self._only(expert):
            output = super().schedule(*args, **kwargs)
            computed = output.total_num_scheduled_tokens > 0
            starved = not computed and any(r not in self.deferred_waiting for r in self.waiting)
        if self._blocked not in working or (self._blocked == expert and not starved):
            self._blocked = None
        if starved and self._blocked is None:
            self._blocked = expert  # 2
        admitting = self._admits(output.num_scheduled_tokens)
        step = Step(now, tuple(dict.fromkeys(working)), expert, None, admitting, behind)
        self._under_way.append((self._turns, step))
        output.coe_expert = expert  # travels to the worker with the output
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        outputs: dict[int, EngineCoreOutputs] = super().update_from_output(
            scheduler_output, model_runner_output
        )
        cost: Cost | None = getattr(model_runner_output, "coe_cost", None)
        turns, step = self._under_way.popleft()
        turns.done(cost, step.admitting)
        if self._trace is not None and turns is self._turns:
            self._trace.add(replace(step, cost=cost))
        for request in self._refused:
            answer = EngineCoreOutput(
                request_id=request.request_id,
                new_token_ids=[],
                finish_reason=request.get_finished_reason(),
                events=request.take_events(),
                trace_headers=request.trace_headers,
            )
            outputs.setdefault(request.client_index, EngineCoreOutputs()).outputs.append(answer)
        self._refused = []
        return outputs

    def _begin_trace(self) -> None:
        """Takes up the trace that the executor was asked for, or ends the one under way."""
        asked_for = self.vllm_config.additional_config.get("trace")
        if asked_for is not None and asked_for is not self._trace:
            self._turns = Turns(self._limits)  # so that the trace replays from its first step
        self._trace = asked_for

    def _admits(self, scheduled: Iterable[str]) -> bool:
        """Tells whether the step went on with requests that waited when the turn began, and some are left."""
        went_on = not self._newcomers.isdisjoint(scheduled)
        newcomers = (self.requests.get(name) for name in self._newcomers)
        self._newcomers = {r.request_id for r in newcomers if r is not None and _prefills(r, expert_of(r))}
        return went_on and bool(self._newcomers)

    def _refuse_not_resident(self) -> None:
        """Ends the requests of experts that the workers do not hold."""
        resident = self.vllm_config.additional_config["resident"]
        strangers = [request for request in self._unfinished() if expert_of(request) not in resident]
        if not strangers:
            return
        for request in strangers:
            logger.warning("request %s: expert %r is not resident", request.request_id, expert_of(request))
        names = {request.request_id for request in strangers}
        self._refused += self.finish_requests(names, RequestStatus.FINISHED_ERROR)  # 1

    def _working(self) -> list[str]:
        """Lists the experts of the requests that a step may compute for, one for each."""
        running = [*filter(_needs_steps, self.running), *self.kv_holding_waiting]
        working = [expert_of(request) for request in (*running, *self.waiting)]
        if self._blocked is None:
            return working
        blocked = [name for name in working[len(running) :] if name == self._blocked]
        return working[: len(running)] + blocked  # 2

    def _unfinished(self) -> Iterator[Request]:
        yield from self.running
        yield from self.kv_holding_waiting
        yield from self.waiting

    @contextmanager
    def _only(self, expert: str | None) -> Iterator[None]:
        """Hides the requests of the other experts, and ``expert``'s waiting ones while another is blocked."""
        hidden_running = [r for r in self.running if expert_of(r) != expert]
        hidden_holding = [r for r in self.kv_holding_waiting if expert_of(r) != expert]
        admitting = self._blocked in (None, expert)
        hidden_waiting = [r for r in self.waiting if expert_of(r) != expert or not admitting]
        self.running = [r for r in self.running if expert_of(r) == expert]
        self.kv_holding_waiting.remove_requests(hidden_holding)
        self.waiting.remove_requests(hidden_waiting)
        if not self.runner_forgets:
            # Else all tokens of those that were hidden would be copied, and pickled for each worker, at every
            # switch: a runner that is not asynchronous has them and does not read these.
            self.prev_step_scheduled_req_ids.update(request.request_id for request in self.running)
        try:
            yield
        finally:
            self.running = [*self.running, *hidden_running]
            for request in hidden_holding:
                self.kv_holding_waiting.add_request(request)
            for request in hidden_waiting:
                self.waiting.add_request(request)


class AsyncExpertScheduler(ExpertScheduler, AsyncScheduler):
    """Schedules a step before the one in front of it has given its tokens."""

    runner_forgets = True
