"""The shape of a decoder-only transformer, as its config.json gives it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experts.errors import CheckpointUnreadable

TIED_BY_DEFAULT = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "cohere2"})
"""Types whose class ties the head to the embedding where config.json is silent; the others are counted
untied, which is never too little."""
NOT_ATTENTION = frozenset({"mamba", "mamba2", "linear_attention", "conv", "recurrent"})
"""Names in ``layer_types`` of layers that keep no KV."""

OTHER_NAMES = {
    "n_embd": "hidden_size",
    "d_model": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_layers": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_heads": "num_attention_heads",
    "n_inner": "intermediate_size",
    "ffn_hidden_size": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "seq_length": "max_position_embeddings",
}
"""Names that older model types have for the same sizes."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture of experts inside a model (not our experts): every one is in memory, few compute a token."""

    experts: int
    per_token: int
    intermediate: int
    shared_intermediate: int = 0
    dense_layers: int = 0
    """Layers at the beginning that are no mixture."""


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): widths of what is kept."""

    kv_rank: int
    rope_width: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes in elements. ``context``: the longest prompt and answer that it was made for. ``weight_bits``: of
    a linear layer's weight, where the checkpoint is quantised; None: as the computing type."""

    model_type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    context: int
    tied: bool = False
    biased: bool = False
    norms_per_layer: int = 2
    attention_layers: int | None = None
    """Layers that keep KV; None: all."""
    mixture: Mixture | None = None
    latent: Latent | None = None
    weight_bits: float | None = None

    @property
    def kv_layers(self) -> int:
        return self.layers if self.attention_layers is None else self.attention_layers

    @classmethod
    def of(cls, config: Mapping[str, Any], where: str) -> "Architecture":
        """Reads a config.json; of a model that sees, its text part. ``where`` is for the message. Raises
        CheckpointUnreadable where a size is missing."""
        text = {**config, **(config.get("text_config") or {})}
        text = {**{ours: text[theirs] for theirs, ours in OTHER_NAMES.items() if theirs in text}, **text}
        try:
            return _read(text)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise CheckpointUnreadable(
                f"{where}: what memory the model takes cannot be told: {_named(error)}"
            ) from error


def _read(config: Mapping[str, Any]) -> Architecture:
    kind, hidden, heads = str(config["model_type"]), int(config["hidden_size"]), _heads(config)
    layers = int(config["num_hidden_layers"])
    return Architecture(
        model_type=kind,
        layers=layers,
        hidden=hidden,
        intermediate=int(config.get("intermediate_size") or 4 * hidden),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_width=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        tied=bool(config.get("tie_word_embeddings", kind in TIED_BY_DEFAULT)),
        biased=kind.startswith("qwen2") or bool(config.get("attention_bias")),
        norms_per_layer=4 if kind.startswith(("gemma2", "gemma3")) else 2,
        attention_layers=_attention_layers(config),
        mixture=_mixture(config),
        latent=_latent(config),
        weight_bits=_weight_bits(config.get("quantization_config")),
    )


def _heads(config: Mapping[str, Any]) -> int:
    heads = int(config["num_attention_heads"])
    if heads < 1:
        raise ValueError("num_attention_heads is under 1")
    return heads


def _attention_layers(config: Mapping[str, Any]) -> int | None:
    """Counts the layers that keep KV in a hybrid; None where config.json lists no kinds."""
    kinds = config.get("layer_types") or config.get("layers_block_type")
    return None if kinds is None else sum(kind not in NOT_ATTENTION for kind in kinds)


def _mixture(config: Mapping[str, Any]) -> Mixture | None:
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    count = next((int(config[name]) for name in names if config.get(name)), 0)
    if count < 2:
        return None
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    shared = int(config.get("shared_expert_intermediate_size") or 0)
    return Mixture(
        experts=count,
        per_token=int(config["num_experts_per_tok"]),
        intermediate=width,
        shared_intermediate=shared or int(config.get("n_shared_experts") or 0) * width,
        dense_layers=int(config.get("first_k_dense_replace") or 0),
    )


def _latent(config: Mapping[str, Any]) -> Latent | None:
    if not config.get("kv_lora_rank"):
        return None
    return Latent(int(config["kv_lora_rank"]), int(config["qk_rope_head_dim"]))


def _weight_bits(quantization: Mapping[str, Any] | None) -> float | None:
    """Reads the bits of a quantised weight. With four, a scale of 16 bits and a zero of four come with each
    128 weights (the usual group of AWQ and GPTQ)."""
    if not quantization:
        return None
    if not isinstance(quantization, Mapping):
        raise TypeError(f"quantization_config is {quantization!r}, and not an object")
    groups = quantization.get("config_groups") or {}
    found = [group["weights"]["num_bits"] for group in groups.values() if group.get("weights")]
    bits = float(max(found) if found else quantization.get("bits") or 8)
    return bits + 20 / 128 if bits < 8 else bits


def _named(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
