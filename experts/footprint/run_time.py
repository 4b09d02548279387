"""Memory of an engine on each GPU beside weights and KV: context, graphs, and the peak of its profiling run.

Every figure is read from vLLM 0.32's sources or assumed; none was measured on a GPU.
"""

from experts.footprint.architecture import Architecture
from experts.spec import CAPTURED_SIZES

CONTEXT_BYTES = 600 * 10**6
"""Assumed: CUDA's context, loaded kernels and the libraries' workspaces of one process."""
COLLECTIVE_BYTES = 500 * 10**6
"""Assumed: buffers of NCCL and of vLLM's own all-reduce, where an engine spans GPUs."""
GRAPH_BYTES = 300_000
"""Assumed: what a captured size takes for each layer, some 0.6 GB for 67 sizes of 32 layers."""
LARGEST_CAPTURED = 512
"""vLLM captures batches up to twice ``max_num_seqs``, and never larger ones (``config/vllm.py``)."""
SAMPLER_BYTES = 22
"""Bytes for each sequence and token of the vocabulary while sampling: logits in 16 and in 32 bits, sorted
values and their 64-bit places, probabilities (``v1/sample``), as the profiling run does for all sequences."""
GIB = 2**30


def batched_tokens(gpu_bytes: int, max_model_len: int, max_num_seqs: int, given: int | None = None) -> int:
    """Returns the tokens of one step: ``--max-num-batched-tokens`` if ``given``, else the default of vLLM's
    server for a GPU of this size (``get_batch_defaults``; on an A100 it takes 2,048, and a plan the most)."""
    if given is not None:
        return given
    most = 16_384 if gpu_bytes >= 160 * GIB else 8_192 if gpu_bytes >= 70 * GIB else 2_048
    return min(most, max_model_len * max_num_seqs)


def activation_bytes(architecture: Architecture, ranks: int, tokens: int, sequences: int) -> int:
    """Estimates the peak of the profiling run: one layer's hidden and residual state, its queries, keys and
    values, and the two halves of its feed-forward layer with their product, for all ``tokens``; or the
    sampler's tensors, whichever is more. All in 16 bits, of which the feed-forward part is split."""
    a = architecture
    width = a.intermediate
    if a.mixture is not None:
        width = max(width, a.mixture.intermediate * a.mixture.per_token + a.mixture.shared_intermediate)
    wide = 3 * -(-width // ranks)
    attention = (a.heads + 2 * a.kv_heads) * a.head_width // ranks
    layer = tokens * (3 * a.hidden + max(wide, 2 * attention)) * 2
    sampler = min(tokens, sequences) * a.vocabulary * SAMPLER_BYTES
    return max(layer, sampler)


def graph_bytes(architecture: Architecture, sequences: int) -> int:
    """Estimates what captured graphs take: sizes 1, 2, 4, every 8th to 256 and every 16th above."""
    largest = min(LARGEST_CAPTURED, 2 * sequences)
    sizes = 3 + min(largest, 256) // 8 + max(0, largest - 256) // 16
    return sizes * architecture.layers * GRAPH_BYTES


def graph_set_bytes(architecture: Architecture) -> int:
    """Estimates what the graphs of one expert take, where each has its own."""
    return len(CAPTURED_SIZES) * architecture.layers * GRAPH_BYTES


def context_bytes(ranks: int) -> int:
    """Returns what a process takes on its GPU before it has a model."""
    return CONTEXT_BYTES + (COLLECTIVE_BYTES if ranks > 1 else 0)
