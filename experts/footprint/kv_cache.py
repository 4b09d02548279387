"""The bytes that one token's keys and values take in the KV pool of one GPU."""

from experts.footprint.architecture import Architecture


def kv_bytes_per_token(architecture: Architecture, ranks: int, value_bytes: int = 2) -> int:
    """Computes 2 (keys and values) x layers x KV heads x head width x bytes of a value; grouped-query
    attention (arXiv 2305.13245) keeps the KV heads alone. A GPU has its share of the heads, and at least
    one. Layers with a sliding window are counted in full, which is never too little. Latent attention keeps
    one vector a layer, on every GPU (arXiv 2405.04434)."""
    a = architecture
    if a.latent is not None:
        return a.kv_layers * (a.latent.kv_rank + a.latent.rope_width) * value_bytes
    return 2 * a.kv_layers * max(1, -(-a.kv_heads // ranks)) * a.head_width * value_bytes
