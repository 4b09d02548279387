"""Computes RMS norms on the CPU by the kernels that vLLM has compiled for it and does not use.

vLLM 0.32's IR ops (``vllm/ir/ops/layernorm.py``) have an implementation in C++ that is offered to GPUs alone,
since on the CPU they are meant for torch's compiler. Without it a norm is seven operators of torch: 20
microseconds for a token where the kernel takes 2, sixty times a step.
"""

import torch
from vllm import ir
from vllm.logger import init_logger

logger = init_logger(__name__)

PROVIDER = "coe_cpu"


def install(dtype: torch.dtype) -> None:
    """Lets ``PROVIDER`` compute norms from now on, in this process, if it agrees with vLLM's own within what
    vLLM allows an implementation for ``dtype``. Those with unusual arguments stay vLLM's own."""
    ops = ir.ops.rms_norm, ir.ops.fused_add_rms_norm
    if PROVIDER not in ops[0].impls:
        ops[0].register_impl(PROVIDER, supports_args=_plain)(_rms_norm)
        ops[1].register_impl(PROVIDER, supports_args=_plain_sum, inplace=True)(_fused_add_rms_norm)
    reason = _unfit(dtype)
    if reason is not None:
        logger.warning("norms stay vLLM's own: %s", reason)
        return
    for op in ops:
        op.set_default([PROVIDER, "native"])


def _plain(
    x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    return variance_size is None and weight is not None and weight.dtype == x.dtype and x.is_contiguous()


def _plain_sum(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> bool:
    return _plain(x, weight, epsilon, variance_size) and x_residual.is_contiguous()


def _rms_norm(
    x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> torch.Tensor:
    result = torch.empty_like(x)
    torch.ops._C.rms_norm(result, x, weight, epsilon)
    return result


def _fused_add_rms_norm(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual


def _unfit(dtype: torch.dtype) -> str | None:
    """Says why ``PROVIDER`` cannot stand in for vLLM's own here; None when it can."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(160, generator=generator).to(dtype)
    try:
        for tokens in (1, 7, 40):
            x, residual = (torch.randn(tokens, 160, generator=generator).to(dtype) for _ in range(2))
            wanted = ir.ops.rms_norm.impls["native"].impl_fn(x, weight, 1e-5)
            torch.testing.assert_close(
                _rms_norm(x, weight, 1e-5), wanted, **ir.ops.rms_norm.get_tolerance(dtype)
            )
            sums = ir.ops.fused_add_rms_norm.impls["native"].impl_fn(x, residual, weight, 1e-5)
            found = _fused_add_rms_norm(x.clone(), residual.clone(), weight, 1e-5)
            torch.testing.assert_close(found, sums, **ir.ops.fused_add_rms_norm.get_tolerance(dtype))
    except (AttributeError, RuntimeError, AssertionError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None
