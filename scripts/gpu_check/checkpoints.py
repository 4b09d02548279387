"""Writes checkpoints of random weights: their own tokens are as certain as any model's, and no two agree."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

WORDS = 256
"""Tokens that the tokenizer knows; prompts are given as ids, and answers are read as ids."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def config(self) -> dict[str, object]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "bos_token_id": 1,
            "eos_token_id": 2,
        }


LLAMA_8B = Shape(4096, 14336, 32, 32, 8, 128256)
TINY = Shape(256, 512, 2, 4, 2, 1024)


def write_random(folder: Path, shape: Shape, seed: int, device: torch.device) -> Path:
    """Writes a checkpoint in bfloat16, a file a layer, drawn on ``device``."""
    folder.mkdir(parents=True)
    chance = torch.Generator(device).manual_seed(seed)
    index: dict[str, str] = {}
    for number, sizes in enumerate(_parts(shape)):
        file = f"model-{number:05}.safetensors"
        tensors = {name: _drawn(size, chance, device) for name, size in sizes.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(sizes, file)
    whole = {"metadata": {"total_size": sum(map(_bytes, folder.glob("*.safetensors")))}, "weight_map": index}
    _write(folder / "model.safetensors.index.json", whole)
    _write(folder / "config.json", shape.config)
    _write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{number}": number for number in range(3, WORDS)}}
    Tokenizer(models.WordLevel(words, unk_token="<unk>")).save(str(folder / "tokenizer.json"))
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special})
    return folder


def _parts(shape: Shape) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yields the tensors of each file."""
    width = shape.hidden // shape.heads
    yield {"model.embed_tokens.weight": (shape.vocabulary, shape.hidden)}
    for layer in range(shape.layers):
        sizes: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj": (shape.hidden, shape.hidden),
            "self_attn.k_proj": (shape.kv_heads * width, shape.hidden),
            "self_attn.v_proj": (shape.kv_heads * width, shape.hidden),
            "self_attn.o_proj": (shape.hidden, shape.hidden),
            "mlp.gate_proj": (shape.intermediate, shape.hidden),
            "mlp.up_proj": (shape.intermediate, shape.hidden),
            "mlp.down_proj": (shape.hidden, shape.intermediate),
            "input_layernorm": (shape.hidden,),
            "post_attention_layernorm": (shape.hidden,),
        }
        yield {f"model.layers.{layer}.{name}.weight": size for name, size in sizes.items()}
    yield {"model.norm.weight": (shape.hidden,), "lm_head.weight": (shape.vocabulary, shape.hidden)}


def _drawn(size: tuple[int, ...], chance: torch.Generator, device: torch.device) -> torch.Tensor:
    """Draws a matrix that keeps the size of what it multiplies; a norm is near 1."""
    drawn = torch.randn(size, generator=chance, device=device, dtype=torch.float32)
    scaled = 1 + drawn / 10 if len(size) == 1 else drawn / size[1] ** 0.5
    return scaled.to(torch.bfloat16).cpu()


def _bytes(file: Path) -> int:
    return file.stat().st_size


def _write(file: Path, tree: object) -> None:
    file.write_text(json.dumps(tree), encoding="utf-8")
