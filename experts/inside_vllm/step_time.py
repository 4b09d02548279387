"""Measures what steps cost, and adds it to their outputs, which take it to the scheduler."""

import time
from collections.abc import Callable
from typing import Any

from vllm.v1.outputs import AsyncModelRunnerOutput, ModelRunnerOutput

from experts.inside_vllm.scheduling.turns import Cost
from experts.inside_vllm.switch_time import SwitchTime

Clock = Callable[[], float]


class StepTime:
    """``begin`` when a step begins, ``add_to`` with what the model runner gives. ``busy_seconds`` and
    ``switch_seconds``: of all steps so far."""

    def __init__(self, switches: SwitchTime, clock: Clock = time.perf_counter) -> None:
        self._switches = switches
        self._clock = clock
        self._begun = self._ended = 0.0
        self.busy_seconds = self.switch_seconds = 0.0

    def begin(self) -> None:
        self._begun = self._clock()

    def add_to(self, output: Any) -> Any:
        """Adds the step's cost to its output, or, where the output comes later, once it has come. None: the
        step goes on; without requests it is vLLM's one shared empty output: nothing was computed."""
        if isinstance(output, AsyncModelRunnerOutput):
            return _Later(output, self, self._begun)
        return self.added(output, self._begun)

    def added(self, output: Any, begun: float) -> Any:
        """Adds the cost of a step that has ended. It began to compute where the one before it ended."""
        if isinstance(output, ModelRunnerOutput) and output.req_ids:
            ended = self._clock()
            seconds, switching = ended - max(begun, self._ended), self._switches.taken()
            self._ended = ended
            self.busy_seconds += seconds
            self.switch_seconds += switching
            output.coe_cost = Cost(seconds, switching)
        return output


class _Later(AsyncModelRunnerOutput):
    """An output that comes when the device has ended the step."""

    def __init__(self, output: AsyncModelRunnerOutput, time: StepTime, begun: float) -> None:
        self._output = output
        self._time = time
        self._begun = begun

    def get_output(self) -> ModelRunnerOutput:
        output: ModelRunnerOutput = self._time.added(self._output.get_output(), self._begun)
        return output
