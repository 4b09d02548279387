"""Perplexity of every embedded expert on held-out texts of every domain, as JSON and as a Markdown table.

    python -m scripts.embedded.measure_perplexity --store .state/models --data train.jsonl.gz

The experts are the prepared checkpoints that an engine serves, computed in float32. The texts are those that
``scripts.embedded.train_adapters`` held out, cut at the same length.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from experts.embedded import PERPLEXITY
from scripts.embedded.domain_texts import DOMAINS, Perplexity, domain_texts, encode, perplexity, sample, split
from scripts.embedded.train_adapters import Recipe

EXPERTS = ("general", *DOMAINS)
Table = dict[str, dict[str, Perplexity]]
"""Expert, then domain."""


def measure(store: Path, data: Path, recipe: Recipe) -> Table:
    tokenizer = AutoTokenizer.from_pretrained(store / "general")
    judged = {
        domain: [
            encode(tokenizer, text, recipe.held_out_longest_tokens)
            for text in sample(split(domain_texts(domain, data))[1], recipe.held_out_texts)
        ]
        for domain in DOMAINS
    }
    table: Table = {}
    for expert in EXPERTS:
        model = AutoModelForCausalLM.from_pretrained(store / expert, dtype=torch.float32)
        table[expert] = {domain: perplexity(model, texts) for domain, texts in judged.items()}
        print(expert, {domain: round(found.value, 2) for domain, found in table[expert].items()}, flush=True)
    return table


def markdown(table: Mapping[str, Mapping[str, Perplexity]]) -> str:
    """Experts down, domains across; the lowest of a column is bold. Intervals are 95 %, over texts."""
    sizes = table["general"]
    head = [
        "expert",
        *(f"{domain} ({sizes[domain].texts} texts, {sizes[domain].tokens:,} tokens)" for domain in DOMAINS),
    ]
    rows = [head, ["---"] * len(head)]
    for expert, row in table.items():
        cells = [expert]
        for domain in DOMAINS:
            found = row[domain]
            value = f"{found.value:.2f}"
            best = found.value == min(other[domain].value for other in table.values())
            cells.append(f"{f'**{value}**' if best else value} [{found.low:.2f}, {found.high:.2f}]")
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, required=True, help="where the experts are prepared")
    parser.add_argument("--data", type=Path, required=True, help="routing data, gzipped JSON lines")
    parser.add_argument("--output", type=Path, default=PERPLEXITY, help="the JSON file to write")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers_logging.disable_progress_bar()
    table = measure(arguments.store, arguments.data, Recipe())
    numbers = {
        expert: {domain: asdict(found) for domain, found in row.items()} for expert, row in table.items()
    }
    arguments.output.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(markdown(table))


if __name__ == "__main__":
    main()
