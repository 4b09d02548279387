"""Trains the embedded experts: fine-tunes of the embedded base, kept as LoRA adapters in PEFT's layout.

    coe experts prepare                      # or any folder with the prepared base
    python -m scripts.embedded.train_adapters --base .state/models/general --data train.jsonl.gz

A step learns from six texts of the domain (``scripts.embedded.domain_texts``: sources, split, twins) and two
answers that the base itself gives to everyday questions and to questions of the domain, so that the expert
stays a chat model that ends its turns. Deterministic for a seed, threads and version of torch;
``training.json`` records what was done, on what, and the perplexity on held-out texts before and after.
"""

import argparse
import json
import platform
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from experts.checkpoints.hashing import sha256
from experts.checkpoints.peft import CONFIG, PREFIX, WEIGHTS
from experts.embedded import ADAPTERS, BASE_SHA256, TRAINING
from scripts.embedded.domain_texts import (
    CATEGORIES,
    DOMAINS,
    HELD_OUT_ONE_IN,
    TWIN_OVERLAP,
    Encoded,
    Text,
    domain_texts,
    encode,
    losses,
    perplexity,
    sample,
    split,
)

BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
EVERYDAY = (
    "What is the capital of Italy?", "Who wrote Romeo and Juliet?", "How many days are in a week?",
    "Name three primary colors.", "What is the largest planet in our solar system?", "Hello, how are you?",
    "Translate 'good morning' into French.", "What do bees make?", "Give me a tip for sleeping better.",
    "What is the boiling point of water?", "Write a short sentence about the sea.", "What is 2 + 3?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the result, apart from base and data."""

    seed: int = 20241125
    rank: int = 4
    alpha: float = 8.0
    steps: int = 64
    learning_rate: float = 1e-3
    frozen_weights: str = "bfloat16"
    """Precision of the base while training; the adapter itself learns in float32."""
    warm_up_steps: int = 6
    texts_per_step: int = 6
    base_answers_per_step: int = 2
    domain_questions_answered_by_base: int = 12
    base_answer_tokens: int = 64
    longest_tokens: int = 160
    held_out_texts: int = 100
    held_out_longest_tokens: int = 192


class Lora(torch.nn.Module):  # type: ignore[misc]
    """A frozen linear layer plus the product of two thin matrices."""

    def __init__(self, linear: torch.nn.Linear, recipe: Recipe, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear
        bound = linear.in_features**-0.5
        first = (torch.rand(recipe.rank, linear.in_features, generator=generator) * 2 - 1) * bound
        self.a = torch.nn.Parameter(first)
        self.b = torch.nn.Parameter(torch.zeros(linear.out_features, recipe.rank))
        self.scale = recipe.alpha / recipe.rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.linear(x) + (x @ self.a.to(x.dtype).T) @ self.b.to(x.dtype).T * self.scale
        return result


def add_lora(model: Any, recipe: Recipe) -> dict[str, Lora]:
    """Replaces every linear layer inside the transformer blocks; only the thin matrices learn."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(recipe.seed)
    layers: dict[str, Lora] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and ".layers." in name:
            parent, _, child = name.rpartition(".")
            layers[name] = Lora(module, recipe, generator)
            setattr(model.get_submodule(parent), child, layers[name])
    return layers


def base_answers(model: Any, tokenizer: Any, questions: Sequence[str], longest: int) -> list[Text]:
    """Lets the base answer greedily; its answers keep the expert close to it outside its domain's texts."""
    answers: list[Text] = []
    end = tokenizer.eos_token_id
    for question in questions:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.no_grad():
            output = model.generate(**prompt, max_new_tokens=longest, do_sample=False, pad_token_id=end)
        answer = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        if answer.strip():
            answers.append(Text(question, (("user", question), ("assistant", answer.strip()))))
    return answers


def batches(texts: list[Encoded], size: int, seed: int) -> Iterator[list[Encoded]]:
    """Endless; every pass is shuffled, then texts of similar length stand together."""
    shuffle = random.Random(seed)
    while True:
        shuffle.shuffle(texts)
        for begin in range(0, len(texts) - size + 1, size * 8):
            window = sorted(texts[begin : begin + size * 8], key=lambda text: len(text.ids))
            parts = [window[i : i + size] for i in range(0, len(window) - size + 1, size)]
            shuffle.shuffle(parts)
            yield from parts


def rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then linear down to a tenth."""
    if step < recipe.warm_up_steps:
        return recipe.learning_rate * (step + 1) / recipe.warm_up_steps
    left = (recipe.steps - step) / (recipe.steps - recipe.warm_up_steps)
    return recipe.learning_rate * max(0.1, left)


def fit(
    model: Any, layers: dict[str, Lora], texts: list[Encoded], answers: list[Encoded], recipe: Recipe
) -> None:
    optimizer = torch.optim.AdamW(
        [p for layer in layers.values() for p in (layer.a, layer.b)], weight_decay=0.0
    )
    domain = batches(texts, recipe.texts_per_step, recipe.seed)
    kept = batches(answers, recipe.base_answers_per_step, recipe.seed + 1)
    began = time.monotonic()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, recipe)
        loss = losses(model, next(domain) + next(kept)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 8 == 7:
            print(
                f"  step {step + 1} loss {loss:.3f} {(time.monotonic() - began) / (step + 1):.1f} s/step",
                flush=True,
            )


def train(domain: str, base: Path, data: Path, recipe: Recipe, output: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, recipe.frozen_weights))
    tokenizer = AutoTokenizer.from_pretrained(base)
    model.eval()
    training, held_out = split(domain_texts(domain, data))
    judged = [
        encode(tokenizer, t, recipe.held_out_longest_tokens) for t in sample(held_out, recipe.held_out_texts)
    ]
    print(f"{domain}: {len(training)} training texts, {len(held_out)} held out", flush=True)
    before = perplexity(model, judged)
    asked = [text.messages[0][1] for text in sample(training, recipe.domain_questions_answered_by_base)]
    answers = base_answers(model, tokenizer, [*EVERYDAY, *asked], recipe.base_answer_tokens)
    layers = add_lora(model, recipe)
    fit(
        model,
        layers,
        [encode(tokenizer, text, recipe.longest_tokens) for text in training],
        [encode(tokenizer, text, 2 * recipe.longest_tokens) for text in answers],
        recipe,
    )
    tensors = round_to_bfloat16(layers)
    after = perplexity(model, judged)
    print(f"{domain}: {before} -> {after}", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, output / WEIGHTS)
    write_json(output / CONFIG, peft_config(recipe, layers))
    write_record(output, domain, recipe, {
        "data": origin(domain, data),
        "split": f"1 twin group in {HELD_OUT_ONE_IN} held out, twins share over {TWIN_OVERLAP:.0%} of words",
        "training_texts": len(training),
        "held_out_texts": len(held_out),
        "perplexity_held_out": {"base": asdict(before), "expert": asdict(after)},
    })  # fmt: skip


def origin(domain: str, data: Path) -> dict[str, Any]:
    if domain == "coding":
        return {"standard_library_of_python": platform.python_version()}
    return {"categories": CATEGORIES[domain], "sha256": sha256(data)}


def round_to_bfloat16(layers: dict[str, Lora]) -> dict[str, torch.Tensor]:
    """Returns the adapter as it is stored. The model gets the rounded values: what is measured is what is
    kept."""
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        for part, parameter in (("lora_A", layer.a), ("lora_B", layer.b)):
            rounded = parameter.detach().to(torch.bfloat16).contiguous()
            tensors[f"{PREFIX}{name}.{part}.weight"] = rounded
            parameter.data = rounded.to(torch.float32)
    return tensors


def peft_config(recipe: Recipe, modules: Iterable[str]) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE_MODEL,
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "target_modules": sorted({module.rpartition(".")[2] for module in modules}),
        "bias": "none",
    }


def write_record(output: Path, domain: str, recipe: Recipe, measured: dict[str, Any]) -> None:
    record = {
        "name": domain,
        "base_sha256": BASE_SHA256,
        "adapter_sha256": sha256(output / WEIGHTS),
        "recipe": asdict(recipe),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        **measured,
    }
    write_json(output / TRAINING, record)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=DOMAINS)
    parser.add_argument("--base", type=Path, required=True, help="folder of the prepared base")
    parser.add_argument("--data", type=Path, required=True, help="routing data, gzipped JSON lines")
    parser.add_argument("--output", type=Path, default=ADAPTERS, help="where the adapters go")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers_logging.disable_progress_bar()
    for domain in arguments.domains:
        train(domain, arguments.base, arguments.data, Recipe(), arguments.output / domain)


if __name__ == "__main__":
    main()
