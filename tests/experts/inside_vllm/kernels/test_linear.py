"""vLLM's own packed kernel beside ours, on the shapes and batches a model has."""

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm import _custom_ops
    from vllm.model_executor.layers import utils
    from vllm.platforms import current_platform

    from experts.inside_vllm.kernels import linear as kernels
    from experts.inside_vllm.plugin import _avoid_amx

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True, scope="module")
def _as_in_an_engine() -> None:
    _avoid_amx()
    current_platform.import_kernels()


@pytest.fixture
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", utils.dispatch_cpu_unquantized_gemm)


def layer(shape: tuple[int, int], dtype: torch.dtype) -> torch.nn.Module:
    linear = torch.nn.Linear(shape[1], shape[0], dtype=dtype)
    linear.weight = torch.nn.Parameter(linear.weight.data, requires_grad=False)
    return linear


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(960, 576), (576, 1536), (33, 70)])
def test_a_packed_layer_and_its_copy_give_what_vllms_kernel_gives_bit_for_bit(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    linear = layer(shape, dtype)
    handler = _custom_ops.create_onednn_mm(linear.weight.t(), 32)
    packed = kernels.Packed.of(linear.weight)
    copy = torch.frombuffer(bytearray(packed.memory), dtype=torch.uint8).clone()
    mapped = kernels.Packed.mapped(copy.data_ptr(), shape, dtype, packed.layout, copy)
    del packed.tensor
    for tokens in (1, 2, 7, 16, 33, 100):
        x = torch.randn(tokens, shape[1], dtype=dtype)
        for bias in (None, linear.bias.data):
            assert torch.equal(mapped(x, None, bias), _custom_ops.onednn_mm(handler, x, bias))


@pytest.mark.usefixtures("_restored")
def test_once_installed_layers_are_packed_into_memory_that_can_be_read() -> None:
    kernels.install(torch.float32)
    linear = layer((64, 32), torch.float32)
    x = torch.randn(3, 32)
    wanted = linear(x)
    utils.dispatch_cpu_unquantized_gemm(linear, remove_weight=True)
    assert isinstance(linear.cpu_linear, kernels.Packed)
    assert linear.cpu_linear.memory.nbytes >= 64 * 32 * 4
    assert linear.weight.numel() == 0
    torch.testing.assert_close(linear.cpu_linear(x, None, linear.bias), wanted)


@pytest.mark.usefixtures("_restored")
def test_installing_twice_is_installing_once() -> None:
    kernels.install(torch.float32)
    installed = utils.dispatch_cpu_unquantized_gemm
    kernels.install(torch.float32)
    assert utils.dispatch_cpu_unquantized_gemm is installed


@pytest.mark.usefixtures("_restored")
def test_where_the_two_do_not_agree_vllms_kernels_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    before = utils.dispatch_cpu_unquantized_gemm
    right = kernels.Packed.__call__
    monkeypatch.setattr(kernels.Packed, "__call__", lambda *arguments: right(*arguments) + 1e-6)
    kernels.install(torch.float32)
    assert utils.dispatch_cpu_unquantized_gemm is before


@pytest.mark.usefixtures("_restored")
def test_a_type_that_has_no_packed_form_is_left_to_vllm() -> None:
    before = utils.dispatch_cpu_unquantized_gemm
    kernels.install(torch.float64)
    assert utils.dispatch_cpu_unquantized_gemm is before


@pytest.mark.usefixtures("_restored")
def test_weights_that_are_no_matrix_are_left_to_vllm() -> None:
    kernels.install(torch.float32)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(2, 3, 4), requires_grad=False)
    utils.dispatch_cpu_unquantized_gemm(module, remove_weight=True)
    assert module.weight.shape == (2, 3, 4)
