"""Workers on CPU that do what those on CUDA do: images are uploaded, then copied or pointed at."""

from typing import Any

import torch
from vllm.model_executor.layers import utils

from experts.inside_vllm.kernels import linear
from experts.inside_vllm.worker import ExpertWorker


class UploadingWorker(ExpertWorker):
    """As an engine without graphs: the model's parameters are pointed at what was uploaded."""

    beside = True

    def load_model(self, **kwargs: Any) -> None:
        """Without packed layers, which have no tensors that could be copied into."""
        utils.dispatch_cpu_unquantized_gemm = _plain
        linear.install = lambda dtype: None
        super().load_model(**kwargs)


class CopyingWorker(UploadingWorker):
    """As an engine with graphs: the model's tensors stay where they are."""

    @property
    def copies(self) -> bool:
        return True


def _plain(layer: torch.nn.Module, remove_weight: bool) -> None:
    """Gives a layer torch's own kernel, which reads the layer's weight at each call."""
    layer.cpu_linear = torch.nn.functional.linear
