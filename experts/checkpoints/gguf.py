"""Converts a GGUF file of a Llama-shaped model to Hugging Face's layout: float32 weights, config, tokenizer.

The quantisation is undone, and so are llama.cpp's names and its order of rows in the query and key
projections (llama.cpp rotates neighbouring pairs, Hugging Face halves): the result is an ordinary checkpoint.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from experts.checkpoints.safetensors_writer import Weights
from experts.checkpoints.tensor_headers import TensorHeader
from experts.errors import CheckpointUnreadable

CONTROL_TOKEN = 3

PARTS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GgufCheckpoint:
    """An open GGUF file (memory-mapped). Raises CheckpointUnreadable for a model that is not Llama-shaped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._reader = gguf.GGUFReader(path)
        except ValueError as error:
            raise CheckpointUnreadable(f"{path}: not a GGUF file: {error}") from error
        if self._field("general.architecture") != "llama" or self._field("tokenizer.ggml.pre") != "smollm":
            raise CheckpointUnreadable(
                f"{path}: only Llama-shaped models with SmolLM's tokenizer are understood"
            )

    def __repr__(self) -> str:
        return f"<GgufCheckpoint {self._field('general.name')} [{len(self._reader.tensors)} tensors]>"

    def headers(self) -> tuple[TensorHeader, ...]:
        """Describes ``tensors`` in Hugging Face's terms, in their order."""
        return tuple(
            TensorHeader(hugging_face_name(tensor.name), "F32", tuple(int(n) for n in reversed(tensor.shape)))
            for tensor in self._reader.tensors
        )

    def tensors(self) -> Iterator[Weights]:
        """Yields every weight in float32, one at a time."""
        heads = int(self._field("llama.attention.head_count"))
        kv_heads = int(self._field("llama.attention.head_count_kv"))
        for tensor in self._reader.tensors:
            weights = np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
            if tensor.name.endswith("attn_q.weight"):
                weights = halves(weights, heads)
            elif tensor.name.endswith("attn_k.weight"):
                weights = halves(weights, kv_heads)
            yield np.ascontiguousarray(weights)

    def config(self) -> dict[str, Any]:
        """Returns the content of config.json."""
        names = {tensor.name for tensor in self._reader.tensors}
        return {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": self._field("tokenizer.ggml.bos_token_id"),
            "dtype": "float32",
            "eos_token_id": self._field("tokenizer.ggml.eos_token_id"),
            "head_dim": self._field("llama.rope.dimension_count"),
            "hidden_act": "silu",
            "hidden_size": self._field("llama.embedding_length"),
            "intermediate_size": self._field("llama.feed_forward_length"),
            "max_position_embeddings": self._field("llama.context_length"),
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": self._field("llama.attention.head_count"),
            "num_hidden_layers": self._field("llama.block_count"),
            "num_key_value_heads": self._field("llama.attention.head_count_kv"),
            "pad_token_id": self._field("tokenizer.ggml.padding_token_id"),
            "rms_norm_eps": float(f"{self._field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
            "rope_theta": self._field("llama.rope.freq_base"),
            "tie_word_embeddings": "output.weight" not in names,
            "vocab_size": self._field("llama.vocab_size"),
        }

    def generation_config(self) -> dict[str, Any]:
        """Returns the content of generation_config.json: the special tokens; GGUF has no sampling
        defaults."""
        return {
            "bos_token_id": self._field("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self._field("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self._field("tokenizer.ggml.padding_token_id"),
        }

    def chat_template(self) -> str:
        return str(self._field("tokenizer.chat_template"))

    def tokenizer_config(self) -> dict[str, Any]:
        """Returns the content of tokenizer_config.json."""
        return {
            "add_prefix_space": False,
            "bos_token": self._token("bos"),
            "clean_up_tokenization_spaces": False,
            "eos_token": self._token("eos"),
            "model_max_length": self._field("llama.context_length"),
            "pad_token": self._token("padding"),
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": self._token("unknown"),
        }

    def tokenizer(self) -> dict[str, Any]:
        """Returns the content of tokenizer.json: byte-level BPE that splits digits, llama.cpp's
        ``smollm``."""
        tokens, types = self._field("tokenizer.ggml.tokens"), self._field("tokenizer.ggml.token_type")
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": number, "content": token, **flags}
                for number, (token, kind) in enumerate(zip(tokens, types, strict=True))
                if kind == CONTROL_TOKEN
            ],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
            },
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {token: number for number, token in enumerate(tokens)},
                "merges": [merge.split(" ") for merge in self._field("tokenizer.ggml.merges")],
            },
        }

    def _token(self, role: str) -> str:
        return str(self._field("tokenizer.ggml.tokens")[self._field(f"tokenizer.ggml.{role}_token_id")])

    def _field(self, name: str) -> Any:
        field = self._reader.get_field(name)
        if field is None:
            raise CheckpointUnreadable(f"{self._path}: the GGUF field {name} is missing")
        return field.contents()


def hugging_face_name(name: str) -> str:
    """Translates a name: ``blk.3.attn_q.weight`` is ``model.layers.3.self_attn.q_proj.weight``."""
    try:
        match name.split("."):
            case ["blk", layer, part, "weight"]:
                return f"model.layers.{layer}.{PARTS[part]}.weight"
            case [part, "weight"]:
                return f"{PARTS[part]}.weight"
    except KeyError:
        pass
    raise CheckpointUnreadable(f"GGUF tensor {name} has no place in a Llama checkpoint")


def halves(weights: Weights, heads: int) -> Weights:
    """Reorders the rows of a query or key projection from llama.cpp's pairs to Hugging Face's halves."""
    rows, columns = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
