"""A worker on CPU that does what one on CUDA does: images are copied into the model's tensors, which stay."""

from typing import Any

import torch
from vllm.model_executor.layers import utils

from experts.inside_vllm.kernels import linear
from experts.inside_vllm.worker import ExpertWorker


class CopyingWorker(ExpertWorker):
    copies = True

    def load_model(self, **kwargs: Any) -> None:
        """Without packed layers, which have no tensors that could be copied into."""
        utils.dispatch_cpu_unquantized_gemm = _plain
        linear.install = lambda dtype: None
        super().load_model(**kwargs)


def _plain(layer: torch.nn.Module, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear
