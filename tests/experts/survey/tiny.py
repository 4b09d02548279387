"""Tiny models with random weights that real engines can run: checkpoints and adapters of one layer or two."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HERMES = '{% if tools %}<tool_call>{"name": {{ tools }}}</tool_call>{% endif %}' + CHATML
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ROWS = 320
"""Rows of the embedding: bytes, special tokens, and some to spare."""


def a_llama(
    folder: Path, seed: int = 0, *, template: str | None = CHATML, added: int = 0, **config: Any
) -> Path:
    """Makes a checkpoint of a Llama with hidden size 64. ``added``: further tokens; ``config``: fields of
    config.json, of which the tensors' shapes follow."""
    fields = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": ROWS,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 2,
    } | config
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    save_file(
        {name: _drawn(draws, name, shape) for name, shape in shapes(fields).items()},
        folder / "model.safetensors",
    )
    write_json(folder / "config.json", fields)
    write_json(folder / "generation_config.json", {"eos_token_id": 2})
    _tokenizer(added).save(str(folder / "tokenizer.json"))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[2], "bos_token": SPECIAL[0]}
    write_json(folder / "tokenizer_config.json", named)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def an_adapter(folder: Path, base: str, seed: int = 0, **config: Any) -> Path:
    """Makes a LoRA adapter of rank 4 for the query projections of ``a_llama``. ``base``: what it calls it."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    tensors = {}
    for layer in range(2):
        module = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{module}.lora_A.weight"] = draws.normal(size=(4, 64)).astype(np.float32)
        tensors[f"{module}.lora_B.weight"] = draws.normal(size=(64, 4)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    fields |= {"base_model_name_or_path": base}
    write_json(folder / "adapter_config.json", fields | config)
    return folder


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a Llama with that config.json."""
    hidden, wide, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    inner = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (rows, hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        found |= {
            f"{at}.input_layernorm.weight": (hidden,),
            f"{at}.post_attention_layernorm.weight": (hidden,),
            f"{at}.self_attn.q_proj.weight": (inner, hidden),
            f"{at}.self_attn.k_proj.weight": (kv, hidden),
            f"{at}.self_attn.v_proj.weight": (kv, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, inner),
            f"{at}.mlp.gate_proj.weight": (wide, hidden),
            f"{at}.mlp.up_proj.weight": (wide, hidden),
            f"{at}.mlp.down_proj.weight": (hidden, wide),
        }
    return found


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    """Changes fields of a JSON file; None removes one."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    write_json(path, {name: value for name, value in content.items() if value is not None})


def _drawn(draws: np.random.Generator, name: str, shape: tuple[int, ...]) -> "np.typing.NDArray[np.float32]":
    if "norm" in name:
        return np.ones(shape, np.float32)
    return draws.normal(scale=0.05, size=shape).astype(np.float32)


def _tokenizer(added: int) -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    made.add_tokens([f"<extra-{number}>" for number in range(added)])
    return made
