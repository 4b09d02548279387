"""Tells the scheduler which experts the workers hold.

Scheduler and executor live in the engine core, workers may not. Each ``coe_`` method of the worker answers
with what is resident; the executor writes it where the scheduler looks, ``additional_config["resident"]``
of the configuration object both were given. So no step is ever scheduled for weights that are not there.
A trace goes the same way; ``coe_trace`` is the one method that no worker answers.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from experts.inside_vllm.scheduling.turns import Trace


class _TellsScheduler:
    """Mixed into vLLM's executors."""

    vllm_config: Any

    def collective_rpc(self, method: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if method == "coe_trace":
            _, arguments, *_ = args
            return [self._trace(*arguments)]
        results = super().collective_rpc(method, *args, **kwargs)  # type: ignore[misc]
        if isinstance(method, str) and method.startswith("coe_"):
            held = [{*result["resident"], *result["tried"]} for result in results]
            self.vllm_config.additional_config["resident"] = sorted(set.intersection(*held))
        return results

    def _trace(self, most: str) -> dict[str, Any]:
        """Ends the trace under way, begins one of ``most`` steps (0: none), and returns the steps of the one
        that has ended."""
        ours = self.vllm_config.additional_config
        ended: Trace | None = ours.pop("trace", None)
        if int(most) > 0:
            ours["trace"] = Trace(int(most))
        return {"steps": [asdict(step) for step in ended.steps] if ended else []}


class ExpertExecutor(_TellsScheduler, UniProcExecutor):
    """One worker, in the engine core's own process."""


class ExpertMultiprocExecutor(_TellsScheduler, MultiprocExecutor):
    """A worker process for each device (tensor parallelism)."""
