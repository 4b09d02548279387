"""The texts that the embedded composition is judged on: learned from neither by an adapter nor by a router.

Equal numbers of four domains and of ``general``: prompts of the categories that no expert is for. What the
router reads is not scored: of a prompt it reads the first half, and the second half is scored; of a function
it reads the request, and the code is scored.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.data.dataset import Example, lines, read_examples, twin_keys
from router.data.dataset import split as router_split
from router.data.plain_prompts import plain_prompts
from router.decision import GENERAL
from scripts.embedded.domain_texts import (
    CATEGORIES,
    DOMAINS,
    Encoded,
    Text,
    domain_texts,
    encode,
    library_texts,
    sample,
    split,
)

ELSEWHERE = ("code", "computer science")
"""Categories of an expert that learned from other texts than their prompts."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The texts that something was trained on: their ids, and the keys that near twins share."""

    ids: frozenset[str]
    keys: frozenset[str]

    @classmethod
    def of(cls, prompts: Iterable[tuple[str, str]]) -> "Learned":
        """``prompts``: id and prompt."""
        pairs = list(prompts)
        return cls(
            frozenset(name for name, _ in pairs), frozenset(key for _, p in pairs for key in twin_keys(p))
        )

    def has(self, name: str, prompt: str) -> bool:
        """Says whether the prompt, or a near twin of it, is known."""
        return name in self.ids or not self.keys.isdisjoint(twin_keys(prompt))


@dataclass(frozen=True, slots=True)
class Halves:
    """``read`` is what the router gets; ``encoded`` is the text with its scored part."""

    read: str
    encoded: Encoded


def prompt_of(text: Text) -> str:
    return text.messages[0][1]


def learned_by_router(data: Path, *, keep_apart: bool = False) -> Learned:
    """Reads the texts that ``coe router train --data`` learns from, with ``--keep-apart`` or without."""
    learned = [*(each for each in read_examples(data) if each.category is not None), *plain_prompts()]
    if keep_apart:
        parts = router_split(learned)
        learned = [*parts.fit, *parts.calibration]
    return Learned.of((example.id, example.prompt) for example in learned)


def composition_texts(data: Path, count: int) -> dict[str, list[Text]]:
    """``count`` of each domain, by hash. Those that a router trained with ``--keep-apart`` does not learn
    from stand first."""
    by_router = learned_by_router(data, keep_apart=True)
    chosen: dict[str, list[Text]] = {}
    by_adapters: list[Text] = []
    for domain in DOMAINS:
        training, held_out = split(domain_texts(domain, data))
        by_adapters += training
        chosen[domain] = _unseen_first(held_out, by_router)[:count]
    chosen[GENERAL] = _general(read_examples(data), by_router, by_adapters)[:count]
    return chosen


def texts_by_id(data: Path) -> dict[str, Text]:
    """Every prompt of ``data`` and every function."""
    prompts = [Text(example.id, (("user", example.prompt),)) for example in read_examples(data)]
    return {text.id: text for text in (*prompts, *library_texts())}


def _unseen_first(texts: Sequence[Text], by_router: Learned) -> list[Text]:
    ordered = sample(texts, len(texts))
    return sorted(ordered, key=lambda text: by_router.has(text.id, prompt_of(text)))


def _general(examples: Sequence[Example], by_router: Learned, by_adapters: Sequence[Text]) -> list[Text]:
    by_adapter = Learned.of((text.id, prompt_of(text)) for text in by_adapters)
    taken = {None, *ELSEWHERE, *(category for categories in CATEGORIES.values() for category in categories)}
    texts = [
        Text(example.id, (("user", example.prompt),))
        for example in examples
        if example.category not in taken
        and not any(learned.has(example.id, example.prompt) for learned in (by_router, by_adapter))
    ]
    return sample(texts, len(texts))


def halves(tokenizer: Any, text: Text, longest: int) -> Halves:
    """Splits a text's first ``longest`` tokens, the template's included."""
    encoded = encode(tokenizer, text, longest)
    if len(text.messages) > 1:
        return Halves(prompt_of(text), encoded)
    middle = (encoded.first + len(encoded.ids)) // 2
    return Halves(tokenizer.decode(encoded.ids[encoded.first : middle]), Encoded(encoded.ids, middle))


def withhold(data: Path, texts: Iterable[Text], out: Path) -> int:
    """Writes the lines of ``data`` that are neither one of ``texts`` nor a near twin of one, and returns how
    many."""
    withheld = Learned.of((text.id, prompt_of(text)) for text in texts)
    kept = [
        line
        for _, line in lines(data)
        for row in [json.loads(line)]
        if not withheld.has(row["id"], row["prompt"])
    ]
    with gzip.open(out, "wb") as stream:
        stream.writelines(kept)
    return len(kept)
