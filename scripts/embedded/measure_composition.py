"""Perplexity of the embedded composition, its router choosing, beside each of its experts alone.

    python -m scripts.embedded.measure_composition losses   --data train.jsonl.gz --store .state/models
    python -m scripts.embedded.measure_composition route    --data train.jsonl.gz --store .state/models \
        --artifact router/embedded --trained-on withheld.jsonl.gz
    python -m scripts.embedded.measure_composition withhold --data train.jsonl.gz --out withheld.jsonl.gz
    python -m scripts.embedded.measure_composition table

``losses`` runs the models (minutes) and keeps the numbers of every text, ``route`` adds what a router chooses
(seconds), and ``table`` needs nothing but the numbers. ``withhold`` writes the data without any of the
texts, from which ``coe router train`` made the shipped router; ``--trained-on`` is what a router learned
from, and it is judged on the texts that are not in it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from experts.embedded import COMPOSITION
from router.composition import Composition
from router.decision import GENERAL
from router.router import Router
from scripts.embedded.composition_table import (
    Row,
    compare,
    markdown,
    read_rows,
    summary,
    write_rows,
)
from scripts.embedded.composition_texts import (
    composition_texts,
    halves,
    learned_by_router,
    prompt_of,
    texts_by_id,
    withhold,
)
from scripts.embedded.domain_texts import DOMAINS, Encoded, Text, losses
from scripts.embedded.train_adapters import Recipe

EXPERTS = (GENERAL, *DOMAINS)
TEXTS = 100
"""Texts of each domain."""
LONGEST = Recipe().held_out_longest_tokens


def measure(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.store / GENERAL)
    texts = [
        (domain, text.id, halves(tokenizer, text, LONGEST).encoded)
        for domain, found in composition_texts(options.data, TEXTS).items()
        for text in found
    ]
    nats: dict[str, list[float]] = {}
    for expert in EXPERTS:
        model = AutoModelForCausalLM.from_pretrained(options.store / expert, dtype=torch.bfloat16)
        nats[expert] = text_losses(model, [encoded for *_, encoded in texts])
        print(expert, f"{sum(nats[expert]):.0f} nats", flush=True)
    write_rows(
        [
            Row(
                name,
                domain,
                len(encoded.ids) - encoded.first,
                {expert: round(nats[expert][index], 3) for expert in EXPERTS},
                {},
            )
            for index, (domain, name, encoded) in enumerate(texts)
        ],
        options.numbers,
    )


def text_losses(model: Any, texts: list[Encoded], batch_size: int = 8) -> list[float]:
    """Summed over each text's scored tokens."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index].ids))
    sums = [0.0] * len(texts)
    with torch.no_grad():
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            lengths = [len(texts[index].ids) - texts[index].first for index in batch]
            parts = losses(model, [texts[index] for index in batch]).split(lengths)
            for index, part in zip(batch, parts, strict=True):
                sums[index] = float(part.sum())
    return sums


def route(options: argparse.Namespace) -> None:
    composition = Composition(Router.load(options.artifact))
    learned = learned_by_router(options.trained_on or options.data)
    tokenizer = AutoTokenizer.from_pretrained(options.store / GENERAL)
    rows = read_rows(options.numbers)
    routed = []
    for row, text in zip(rows, measured_texts(rows, options.data), strict=True):
        chosen = {name: expert for name, expert in row.chosen.items() if name != options.name}
        if not learned.has(text.id, prompt_of(text)):
            read = halves(tokenizer, text, LONGEST).read
            chosen[options.name] = composition.choose([{"role": "user", "content": read}]).decision.expert
        routed.append(replace(row, chosen=dict(sorted(chosen.items()))))
    write_rows(routed, options.numbers)
    table(options)


def write_withheld(options: argparse.Namespace) -> None:
    texts = measured_texts(read_rows(options.numbers), options.data)
    print(f"{options.out}: {withhold(options.data, texts, options.out)} lines")


def measured_texts(rows: Sequence[Row], data: Path) -> list[Text]:
    texts = texts_by_id(data)
    missing = [row.id for row in rows if row.id not in texts]
    if missing:
        raise SystemExit(f"{missing[0]} is neither in {data} nor in this Python's library: run losses again")
    return [texts[row.id] for row in rows]


def table(options: argparse.Namespace) -> None:
    rows = read_rows(options.numbers)
    for name in dict.fromkeys(name for row in rows for name in row.chosen):
        found = compare(rows, name)
        print(f"{summary(found)}\n\n{markdown(found)}\n")
        domains = compare([row for row in rows if row.domain != GENERAL], name)
        print(f"without {GENERAL}: {summary(domains)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    for name, run in (("losses", measure), ("route", route), ("withhold", write_withheld), ("table", table)):
        verb = verbs.add_parser(name)
        verb.set_defaults(run=run)
        if name != "table":
            verb.add_argument("--data", type=Path, required=True, help="routing data, gzipped JSON lines")
        if name in ("losses", "route"):
            verb.add_argument("--store", type=Path, required=True, help="where the experts are prepared")
        if name == "losses":
            verb.add_argument("--threads", type=int, default=torch.get_num_threads())
        if name == "route":
            verb.add_argument("--artifact", type=Path, required=True, help="folder of the router")
            verb.add_argument("--trained-on", type=Path, help="the router's data, where it is not --data")
            verb.add_argument("--name", default="shipped", help="of the router, in the numbers")
        if name == "withhold":
            verb.add_argument("--out", type=Path, required=True, help="the .jsonl.gz file to write")
        verb.add_argument("--numbers", type=Path, default=COMPOSITION, help="the file of numbers")
    options = parser.parse_args()
    transformers_logging.disable_progress_bar()
    options.run(options)


if __name__ == "__main__":
    main()
