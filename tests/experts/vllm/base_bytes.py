"""A worker extension that counts what a LoRA engine holds, for the test of what the engine says it holds."""

from pathlib import Path
from typing import Any, cast

from experts.checkpoints.tensor_headers import read_headers
from experts.inside_vllm.weights.adapters import AdaptersExtension
from experts.inside_vllm.weights.reload import bytes_packed_beside


class BaseBytesExtension(AdaptersExtension):
    """Mixed into the worker in the place of the product's."""

    def coe_base_bytes(self) -> dict[str, Any]:
        """Counts the base in its computing type, and the places."""
        worker = cast(Any, self)
        model = worker.model_runner.get_model()
        elements = sum(tensor.parameters for tensor in read_headers(Path(worker.model_config.model)))
        held = elements * worker.model_config.dtype.itemsize // worker.parallel_config.tensor_parallel_size
        places = sum(
            tensor.nbytes
            for module in model.modules()
            for which in ("lora_a_stacked", "lora_b_stacked")
            for tensor in vars(module).get(which, ())
        )
        return {"bytes": held + bytes_packed_beside(model) + places}
