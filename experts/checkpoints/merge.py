"""Merges a LoRA adapter (arXiv 2106.09685) into full weights: W + B A x scale, in float32."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from experts.checkpoints.peft import PeftAdapter
from experts.checkpoints.safetensors_writer import Weights
from experts.checkpoints.tensor_headers import TensorHeader


def merged(
    adapter: PeftAdapter, base: Sequence[TensorHeader], tensors: Iterable[Weights]
) -> Iterator[Weights]:
    """Yields the base's ``tensors``, which come in the order of ``base``, with the adapter added.

    Raises CheckpointMismatch before the first one where the adapter does not fit, CheckpointUnreadable.
    """
    adapter.check_fits(base)
    matrices = dict(adapter.matrices())
    scale = np.float32(adapter.scale)
    pairs = {f"{pair.module}.weight": pair for pair in adapter.pairs}
    for header, weights in zip(base, tensors, strict=True):
        pair = pairs.get(header.name)
        if pair is None:
            yield weights
        else:
            yield weights + (matrices[pair.b.name] @ matrices[pair.a.name]) * scale
