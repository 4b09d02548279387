"""Grades the embedded experts, category by category, for the scores of the router that ships.

    python -m scripts.embedded.grade_composition --data withheld.jsonl.gz --all-data train.jsonl.gz \\
        --store .state/models --out graded.jsonl.gz

An expert's grade on a text is the lowest perplexity that an expert has there / its own: the part of the best
one's probability of a token, on geometric average. Graded are prompts of every category, and for ``code``
requests for functions with their code, none of which an adapter learned from or the composition is judged on.
``--data`` is what ``withhold`` of ``scripts.embedded.measure_composition`` wrote; all of its lines are
written, those that are graded with scores.
"""

import argparse
import gzip
import json
from collections.abc import Sequence
from math import exp
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from experts.embedded import COMPOSITION
from router.data.dataset import Example, read_examples
from scripts.embedded.composition_table import read_rows
from scripts.embedded.composition_texts import Learned, prompt_of
from scripts.embedded.domain_texts import DOMAINS, Text, domain_texts, encode, library_texts, sample, split
from scripts.embedded.measure_composition import EXPERTS, LONGEST, text_losses

CODE = "code"
"""Category of requests for functions."""


def chosen(data: Path, examples: Sequence[Example], each: int) -> dict[str, list[Text]]:
    """Category to at most ``each`` texts that no adapter learned from."""
    judged = {row.id for row in read_rows(COMPOSITION)}
    learned: list[Text] = []
    for domain in DOMAINS:
        learned += split(domain_texts(domain, data))[0]
    by_adapters = Learned.of((text.id, prompt_of(text)) for text in learned)
    prompts = [Text(example.id, (("user", example.prompt),)) for example in examples]
    category_of = {example.id: example.category for example in examples}
    texts = {
        category: [text for text in prompts if category_of[text.id] == category]
        for category in {example.category or "" for example in examples} - {"", CODE}
    }
    texts[CODE] = [text for text in split(library_texts())[1] if text.id not in judged]
    return {
        category: sample([text for text in found if not by_adapters.has(text.id, prompt_of(text))], each)
        for category, found in sorted(texts.items())
    }


def grade(texts: Sequence[Text], store: Path) -> list[dict[str, float]]:
    """Runs every expert on every text: minutes. Returns expert to grade, for each text."""
    tokenizer = AutoTokenizer.from_pretrained(store / EXPERTS[0])
    encoded = [encode(tokenizer, text, LONGEST) for text in texts]
    losses: list[dict[str, float]] = [{} for _ in texts]
    for expert in EXPERTS:
        model = AutoModelForCausalLM.from_pretrained(store / expert, dtype=torch.bfloat16)
        for row, text, nats in zip(losses, encoded, text_losses(model, encoded), strict=True):
            row[expert] = nats / (len(text.ids) - text.first)
        print(expert, f"{sum(row[expert] for row in losses) / len(losses):.4f} nats a token", flush=True)
    return [
        {expert: round(exp(min(row.values()) - loss), 4) for expert, loss in row.items()} for row in losses
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="what withhold wrote")
    parser.add_argument("--all-data", type=Path, required=True, help="what the adapters' texts are from")
    parser.add_argument("--store", type=Path, required=True, help="where the experts are prepared")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl.gz file to write")
    parser.add_argument("--each", type=int, default=60, help="texts of a category, at most")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    examples = read_examples(options.data)
    picked = chosen(options.all_data, examples, options.each)
    texts = [text for found in picked.values() for text in found]
    print({category: len(found) for category, found in picked.items()}, flush=True)
    scores = dict(zip((text.id for text in texts), grade(texts, options.store), strict=True))
    functions = [Example(text.id, prompt_of(text), CODE, scores[text.id]) for text in picked[CODE]]
    with gzip.open(options.out, "wt", encoding="utf-8") as stream:
        for each in (*examples, *functions):
            line = {"id": each.id, "prompt": each.prompt, "scores": dict(scores.get(each.id, {}))}
            stream.write(json.dumps(line | ({"category": each.category} if each.category else {})) + "\n")


if __name__ == "__main__":
    main()
