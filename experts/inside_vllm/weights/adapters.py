"""What vLLM's workers hold of LoRA adapters, and freeing those that nobody has use for."""

from pathlib import Path
from typing import Any, cast

import torch

from experts.checkpoints.tensor_headers import read_headers
from experts.inside_vllm.weights.reload import bytes_packed_beside, share_kernel, tied_layers

Report = dict[str, Any]


class AdaptersExtension:
    """Mixed into an otherwise unmodified worker (``--worker-extension-cls``) for mode lora.

    vLLM's ``/v1/unload_lora_adapter`` only forgets the name. The adapter keeps its place until there are too
    many; then the least recently used goes, which may be one that somebody still counts on.
    """

    def coe_adapters(self) -> Report:
        """``held``: number and bytes of each adapter."""
        adapters = _manager(self)._adapter_manager.list_adapters()
        held = [{"number": number, "bytes": _bytes(adapter)} for number, adapter in adapters.items()]
        return {"held": held}

    def coe_keep_adapters(self, *numbers: str) -> Report:
        """Frees the others, apart from those that a request uses."""
        used = {
            request.lora_request.lora_int_id
            for request in cast(Any, self).model_runner.requests.values()
            if request.lora_request is not None
        }
        manager = _manager(self)
        for number in manager.list_adapters() - used - {int(number) for number in numbers}:
            manager.remove_adapter(number)
        return self.coe_adapters()

    def coe_share_kernels(self) -> Report:
        """Frees what tied layers have packed twice (SmolLM2-135M in float32: 113 MB)."""
        for layers in tied_layers(_model(self)):
            share_kernel(layers, layers[0])
        return {}

    def coe_base_bytes(self) -> Report:
        """What the engine holds whoever is resident: the base in its computing type, and the places."""
        worker, model = cast(Any, self), _model(self)
        elements = sum(tensor.parameters for tensor in read_headers(Path(worker.model_config.model)))
        held = elements * worker.model_config.dtype.itemsize // worker.parallel_config.tensor_parallel_size
        places = sum(
            tensor.nbytes
            for module in model.modules()
            for which in ("lora_a_stacked", "lora_b_stacked")
            for tensor in vars(module).get(which, ())
        )
        return {"bytes": held + bytes_packed_beside(model) + places}


def _model(worker: Any) -> Any:
    return worker.model_runner.get_model()


def _manager(worker: Any) -> Any:
    return worker.model_runner.lora_manager


def _bytes(adapter: Any) -> int:
    """The matrices of all its modules; those of layers that vLLM fuses come as lists."""
    held = 0
    for module in adapter.loras.values():
        for matrices in (module.lora_a, module.lora_b):
            tensors = matrices if isinstance(matrices, list | tuple) else [matrices]
            held += sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
    return held
