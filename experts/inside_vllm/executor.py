"""Tells the scheduler which experts the workers hold.

Scheduler and executor live in the engine core, workers may not. Each ``coe_`` method of the worker answers
with what is resident; the executor writes it where the scheduler looks, ``additional_config["resident"]``
of the configuration object both were given. So no step is ever scheduled for weights that are not there.
"""

from collections.abc import Callable
from typing import Any

from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor


class _TellsScheduler:
    vllm_config: Any

    def collective_rpc(self, method: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        results = super().collective_rpc(method, *args, **kwargs)  # type: ignore[misc]
        if isinstance(method, str) and method.startswith("coe_"):
            held = [set(result["resident"]) for result in results]
            self.vllm_config.additional_config["resident"] = sorted(set.intersection(*held))
        return results


class ExpertExecutor(_TellsScheduler, UniProcExecutor):
    """One worker, in the engine core's own process."""


class ExpertMultiprocExecutor(_TellsScheduler, MultiprocExecutor):
    """A worker process per device (tensor parallelism)."""
