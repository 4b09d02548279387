"""Shows what vLLM does not do on a CPU, so that what it would give cannot be measured there."""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm.config import SchedulerConfig, VllmConfig
    from vllm.platforms import current_platform
    from vllm.triton_utils import HAS_TRITON

pytestmark = [
    pytest.mark.skipif(not current_platform.is_cpu(), reason="there is a GPU"),
    pytest.mark.filterwarnings("ignore"),  # of torch, as vLLM uses it
]


def test_the_second_model_runner_is_refused_for_want_of_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    assert not HAS_TRITON, "Triton has a backend for CPUs: the second runner may run here"
    with pytest.raises(ValueError, match="Model Runner V2 requires Triton"):
        VllmConfig()


def test_asynchronous_scheduling_is_turned_off() -> None:
    asked = SchedulerConfig.default_factory(async_scheduling=True)
    assert asked.async_scheduling is True
    assert VllmConfig(scheduler_config=asked).scheduler_config.async_scheduling is False
