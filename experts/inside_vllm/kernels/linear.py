"""Packs linear layers for the CPU into memory that can be read and mapped, so that an image can be a file.

vLLM packs a weight with oneDNN into memory out of reach (``create_onednn_mm``). torch's operators for
oneDNN pack to the same result, bit for bit; their memory can be read, and a packed weight can be made of
memory of our own: that is how AOTInductor keeps its constants (``aoti_torch_create_tensor_from_blob_v2`` of
torch's stable C interface). ``install`` checks all this on the machine before it puts ``Packed`` in the place
of vLLM's kernels.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from vllm import _custom_ops
from vllm.logger import init_logger
from vllm.model_executor.layers import utils
from vllm.platforms import CpuArchEnum, current_platform

logger = init_logger(__name__)

_MKLDNN = 3
"""torch's number for the layout of tensors that are oneDNN's (c10/core/Layout.h)."""
_DTYPES = {torch.float32: 6, torch.float16: 5, torch.bfloat16: 15}
"""torch's numbers (c10/core/ScalarType.h)."""


class Packed:
    """The packed weight of one layer; called like the kernel that vLLM keeps in ``cpu_linear``."""

    __slots__ = ("_owner", "tensor")

    def __init__(self, tensor: torch.Tensor, owner: object = None) -> None:
        """``owner``: keeps the memory of ``tensor`` alive where that is not its own."""
        self.tensor = tensor
        self._owner = owner

    @classmethod
    def of(cls, weight: torch.Tensor) -> "Packed":
        """Packs ``weight``, (outputs, inputs)."""
        return cls(torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None))

    @classmethod
    def mapped(
        cls, address: int, shape: tuple[int, ...], dtype: torch.dtype, layout: bytes, owner: object
    ) -> "Packed":
        """Makes one, without a copy, of memory that holds what another ``Packed`` had in its own."""
        sizes, strides = (ctypes.c_int64 * 2)(*shape), (ctypes.c_int64 * 2)(shape[1], 1)
        tensor = ctypes.c_void_p()
        failed = _create_from_blob()(
            address,
            2,
            sizes,
            strides,
            0,
            _DTYPES[dtype],
            0,
            0,
            ctypes.byref(tensor),
            _MKLDNN,
            layout,
            len(layout),
        )
        if failed or tensor.value is None:
            raise RuntimeError("torch makes no packed weight of these bytes")
        capsule = ctypes.pythonapi.PyCapsule_New
        capsule.restype, capsule.argtypes = (
            ctypes.py_object,
            [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
        )
        take = torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr
        return cls(take(capsule(tensor, None, None)), owner)

    def __call__(self, x: torch.Tensor, weight: Any, bias: torch.Tensor | None) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.tensor, bias, "none", [], "")

    @property
    def layout(self) -> bytes:
        """oneDNN's arrangement of the bytes, for ``mapped``."""
        return bytes(torch.ops.mkldnn._get_mkldnn_serialized_md(self.tensor).numpy())

    @property
    def memory(self) -> memoryview:
        address, size = torch.ops.mkldnn.data_ptr(self.tensor), torch.ops.mkldnn._nbytes(self.tensor)
        return memoryview((ctypes.c_char * size).from_address(address)).cast("B")

    def __repr__(self) -> str:
        return f"<Packed {tuple(self.tensor.shape)} {self.tensor.dtype}>"


def install(dtype: torch.dtype) -> None:
    """Gives layers packed from now on, in this process, a ``Packed`` where vLLM would use oneDNN itself.

    Where the two do not agree bit for bit, vLLM's kernels stay and images cannot be kept in files."""
    if isinstance(utils.dispatch_cpu_unquantized_gemm, _Ours):
        return
    reason = _unfit(dtype)
    if reason is not None:
        logger.warning("packed weights stay vLLM's own, images cannot be kept in files: %s", reason)
        return
    utils.dispatch_cpu_unquantized_gemm = _Ours(utils.dispatch_cpu_unquantized_gemm)


class _Ours:
    """Stands in for vLLM's ``dispatch_cpu_unquantized_gemm``."""

    def __init__(self, before: Callable[[torch.nn.Module, bool], None]) -> None:
        self._before = before

    def __call__(self, layer: torch.nn.Module, remove_weight: bool) -> None:
        weight = layer.weight
        if weight.is_meta or weight.ndim != 2 or utils.check_cpu_sgl_kernel(*weight.size(), weight.dtype):
            self._before(layer, remove_weight)
            return
        layer.cpu_linear = Packed.of(weight.detach())
        if remove_weight:
            layer.weight = torch.nn.Parameter(weight.new_empty(0), requires_grad=False)


def _unfit(dtype: torch.dtype) -> str | None:
    """Says why a ``Packed`` cannot stand in for vLLM's kernel here; None when it can."""
    if not _custom_ops._supports_onednn or current_platform.get_cpu_architecture() != CpuArchEnum.X86:
        return "vLLM uses no oneDNN here"
    if current_platform.is_zen_cpu():
        return "vLLM uses zentorch here"
    if dtype not in _DTYPES:
        return f"{dtype} has no packed form"
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 160, generator=generator).to(dtype)
    bias = torch.randn(96, generator=generator).to(dtype)
    try:
        handler = _custom_ops.create_onednn_mm(weight.t(), 32)
        packed = Packed.of(weight)
        copy = torch.frombuffer(packed.memory, dtype=torch.uint8).clone()  # aligned as torch aligns
        mapped = Packed.mapped(copy.data_ptr(), (96, 160), dtype, packed.layout, copy)
        for tokens in (1, 5, 40):
            x = torch.randn(tokens, 160, generator=generator).to(dtype)
            for added in (None, bias):
                wanted = _custom_ops.onednn_mm(handler, x, added)
                found = packed(x, None, added), mapped(x, None, added)
                if not all(torch.equal(each, wanted) for each in found):
                    return f"torch and vLLM differ in what {tokens} tokens give"
    except (AttributeError, RuntimeError, OSError) as error:
        return f"the operators are not there or do not work: {error}"
    return None


@cache
def _create_from_blob() -> Any:
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    create = library.aoti_torch_create_tensor_from_blob_v2
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    create.argtypes = [
        pointer, number, pointer, pointer, number, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32,
        pointer, ctypes.c_int32, ctypes.c_char_p, number,
    ]  # fmt: skip
    create.restype = ctypes.c_int32
    return create
