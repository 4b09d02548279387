"""The bytes of a model's weights on one GPU of those that share it."""

from collections.abc import Sequence

from experts.checkpoints.tensor_headers import DTYPE_BITS, TensorHeader
from experts.footprint.architecture import Architecture

VOCABULARY_PADDING = 64
"""vLLM pads the vocabulary to a multiple (``DEFAULT_VOCAB_PADDING_SIZE``)."""
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types that an engine converts into its computing type, where a checkpoint is not quantised."""


def parameters(architecture: Architecture) -> int:
    """Counts all weights as the checkpoint has them: a mixture's total, not what computes a token."""
    return sum(_elements(architecture, 1, padded=False))


def active_parameters(architecture: Architecture) -> int:
    """Counts the weights that compute one token: of a mixture its chosen experts."""
    mixture = architecture.mixture
    if mixture is None:
        return parameters(architecture)
    idle = (mixture.experts - mixture.per_token) * 3 * architecture.hidden * mixture.intermediate
    return parameters(architecture) - idle * (architecture.layers - mixture.dense_layers)


def shard_bytes(architecture: Architecture, ranks: int, value_bytes: int) -> int:
    """Computes the bytes on each of ``ranks`` GPUs, from config.json alone. Linear layers and the vocabulary
    are split (Megatron-LM, arXiv 1909.08053); KV heads are copied where there are fewer than GPUs; norms and
    a mixture's gate are on every GPU."""
    plain, linear = _elements(architecture, ranks, padded=True)
    bits = architecture.weight_bits or 8 * value_bytes
    return round(plain * value_bytes + linear * bits / 8)


def header_shard_bytes(headers: Sequence[TensorHeader], ranks: int, value_bytes: int) -> int:
    """Computes the same from the checkpoint's headers, which know what is quantised and how it is packed.
    Matrices are split, vectors are on every GPU; the vocabulary's padding is not seen."""
    quantised = any(header.dtype not in FLOATS for header in headers)
    total = 0
    for header in headers:
        bits = DTYPE_BITS.get(header.dtype, 16)
        if header.dtype in FLOATS and not quantised:
            bits = 8 * value_bytes
        split = ranks if len(header.shape) > 1 else 1
        total += -(-header.parameters * bits // (8 * split))
    return total


def _elements(architecture: Architecture, ranks: int, *, padded: bool) -> tuple[int, int]:
    """Counts values on each GPU: those that stay in the computing type, and those of linear layers."""
    a = architecture
    vocabulary = -(-a.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING if padded else a.vocabulary
    plain = -(-vocabulary // ranks) * a.hidden * (1 if a.tied else 2)
    plain += a.hidden * (a.norms_per_layer * a.layers + 1)
    attention, biases = _attention(a, ranks)
    linear = attention * a.kv_layers
    plain += biases * a.kv_layers
    mixture = a.mixture
    dense = a.layers if mixture is None else mixture.dense_layers
    linear += dense * 3 * a.hidden * -(-a.intermediate // ranks)
    if mixture is not None:
        width = -(-mixture.intermediate // ranks) * mixture.experts
        width += -(-mixture.shared_intermediate // ranks)
        linear += (a.layers - dense) * 3 * a.hidden * width
        plain += (a.layers - dense) * a.hidden * mixture.experts
    return plain, linear


def _attention(a: Architecture, ranks: int) -> tuple[int, int]:
    """Counts one layer's weights and biases of attention on each GPU."""
    queries = -(-a.heads // ranks) * a.head_width
    keys = max(1, -(-a.kv_heads // ranks)) * a.head_width
    biases = queries + 2 * keys if a.biased else 0
    return a.hidden * (2 * queries + 2 * keys), biases
