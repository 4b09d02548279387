"""Lists the LoRA adapters that vLLM's workers hold, and frees those without use."""

from typing import Any, cast

import torch

from experts.inside_vllm.weights.reload import share_kernel, tied_layers

Report = dict[str, Any]


class AdaptersExtension:
    """Mixed into an otherwise unmodified worker (``--worker-extension-cls``) for mode lora.

    vLLM's ``/v1/unload_lora_adapter`` only forgets the name. The adapter keeps its place until there are too
    many; then the least recently used goes, which may be one that is still wanted.
    """

    def coe_adapters(self) -> Report:
        """Reports, as ``held``, the number and bytes of each adapter."""
        adapters = _manager(self)._adapter_manager.list_adapters()
        held = [{"number": number, "bytes": _bytes(adapter)} for number, adapter in adapters.items()]
        return {"held": held}

    def coe_keep_adapters(self, *numbers: str) -> Report:
        """Frees all adapters but those with these ``numbers`` and those that a request uses."""
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


def _model(worker: Any) -> Any:
    return worker.model_runner.get_model()


def _manager(worker: Any) -> Any:
    return worker.model_runner.lora_manager


def _bytes(adapter: Any) -> int:
    """Counts the bytes of all modules' matrices; those of layers that vLLM fuses come as lists."""
    held = 0
    for module in adapter.loras.values():
        for matrices in (module.lora_a, module.lora_b):
            tensors = matrices if isinstance(matrices, list | tuple) else [matrices]
            held += sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
    return held
