"""Measures what steps cost, also where outputs come after the next step has begun."""

import warnings
from collections.abc import Callable, Iterable

import pytest

from experts.inside_vllm.scheduling.turns import Cost
from experts.inside_vllm.switch_time import SwitchTime

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, AsyncModelRunnerOutput, ModelRunnerOutput

    from experts.inside_vllm.step_time import StepTime


def clock(times: Iterable[float]) -> Callable[[], float]:
    return iter(times).__next__


def output() -> ModelRunnerOutput:
    return ModelRunnerOutput(req_ids=["a"], req_id_to_index={"a": 0})


class Later(AsyncModelRunnerOutput):  # type: ignore[misc]
    def get_output(self) -> ModelRunnerOutput:
        return output()


def test_a_step_has_cost_what_it_took() -> None:
    time = StepTime(SwitchTime(), clock([1.0, 3.5]))
    time.begin()
    assert time.add_to(None) is None, "it goes on"
    assert time.add_to(output()).coe_cost == Cost(2.5)
    assert time.busy_seconds == 2.5


def test_without_requests_nothing_was_computed() -> None:
    time = StepTime(SwitchTime(), clock([1.0]))
    time.begin()
    assert not hasattr(time.add_to(EMPTY_MODEL_RUNNER_OUTPUT), "coe_cost")


def test_a_step_that_is_begun_before_the_one_in_front_has_ended_is_charged_from_then_on() -> None:
    time = StepTime(SwitchTime(), clock([0.0, 0.1, 7.0, 14.0]))
    steps = []
    for _ in range(2):
        time.begin()
        steps.append(time.add_to(Later()))
    costs = [step.get_output().coe_cost for step in steps]
    assert [cost.seconds for cost in costs] == pytest.approx([7.0, 7.0])
    assert time.busy_seconds == pytest.approx(14.0)
