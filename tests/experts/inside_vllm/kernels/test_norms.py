"""Norms of vLLM's IR, as an engine on the CPU computes them."""

import warnings
from collections.abc import Iterator

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm import ir
    from vllm.platforms import current_platform

    from experts.inside_vllm.kernels import norms

OPS = ir.ops.rms_norm, ir.ops.fused_add_rms_norm
DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True)
def _native_before_and_after() -> Iterator[None]:
    current_platform.import_kernels()
    for op in OPS:
        op.set_default(["native"])
    yield
    for op in OPS:
        op.set_default(["native"])


def some(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_agree_with_vllms_own(dtype: torch.dtype) -> None:
    x, residual, weight = some(33, 576, dtype=dtype), some(33, 576, dtype=dtype), some(576, dtype=dtype)
    wanted = ir.ops.rms_norm(x, weight, 1e-5)
    wanted_sums = ir.ops.fused_add_rms_norm(x, residual, weight, 1e-5)
    norms.install(dtype)
    assert [op.get_priority()[0] for op in OPS] == [norms.PROVIDER] * 2
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-3, "rtol": 1.6e-2}
    torch.testing.assert_close(ir.ops.rms_norm(x, weight, 1e-5), wanted, **close)
    found = ir.ops.fused_add_rms_norm.maybe_inplace(x.clone(), residual.clone(), weight, 1e-5)
    torch.testing.assert_close(found[0], wanted_sums[0], **close)
    assert torch.equal(found[1], wanted_sums[1])


def test_what_the_kernel_does_not_do_is_computed_by_vllms_own() -> None:
    """Parts of a row, as in a norm of heads; a weight of another type; no weight; a part of the variance."""
    rows, weight = some(5, 64, dtype=torch.bfloat16), some(32, dtype=torch.bfloat16)
    for arguments in (
        (rows[:, :32], weight, 1e-5),
        (rows[:, :32].contiguous(), weight.float(), 1e-5),
        (rows, None, 1e-5),
        (rows[:, :32].contiguous(), weight, 1e-5, 16),
    ):
        wanted = ir.ops.rms_norm(*arguments)
        norms.install(torch.bfloat16)
        assert torch.equal(ir.ops.rms_norm(*arguments), wanted)
        ir.ops.rms_norm.set_default(["native"])


def test_a_kernel_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "_rms_norm", lambda x, weight, epsilon: x)
    norms.install(torch.float32)
    assert [op.get_priority() for op in OPS] == [["native"]] * 2
