"""The composition beside each of its experts: how that is measured, and that the documents say what was."""

import gzip
import json
import math
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[3]))

from experts.embedded import COMPOSITION
from scripts.embedded.composition_table import (
    Comparison,
    Row,
    compare,
    markdown,
    percent,
    read_rows,
    write_rows,
)
from scripts.embedded.composition_texts import (
    composition_texts,
    halves,
    learned_by_router,
    prompt_of,
    withhold,
)
from scripts.embedded.domain_texts import Text

ROOT = Path(__file__).parents[3]


def row(name: str, domain: str, tokens: int, here: float, there: float, chosen: str | None) -> Row:
    return Row(name, domain, tokens, {"here": here, "there": there}, {"router": chosen} if chosen else {})


def test_every_domain_counts_the_same_whatever_its_tokens() -> None:
    rows = [row("a", "here", 10, 10, 20, "here"), row("b", "there", 1000, 3000, 1000, "here")]
    found = compare(rows, "router")
    assert found.texts == {"here": 1, "there": 1}
    assert found.way("composition").perplexity == pytest.approx({"here": math.e, "there": math.e**3})
    assert found.way("composition").overall.value == pytest.approx(math.e**2)
    assert found.way("own expert").overall.value == pytest.approx(math.e)
    assert found.way("there").composition_lower.value == pytest.approx(1 - math.exp(2 - 1.5))
    assert found.own_expert_chosen.value == 0.5


def test_the_best_expert_is_chosen_for_each_text() -> None:
    rows = [
        row("a", "here", 1, 1, 3, "there"),
        row("b", "here", 1, 3, 1, "here"),
        row("c", "there", 1, 2, 2, "here"),
    ]
    assert compare(rows, "router").way("best expert").perplexity["here"] == pytest.approx(math.e)


def test_texts_that_a_router_learned_from_do_not_judge_it() -> None:
    rows = [
        row("a", "here", 1, 1, 2, "here"),
        row("b", "here", 1, 9, 9, None),
        row("c", "there", 1, 2, 1, "there"),
    ]
    assert compare(rows, "router").texts == {"here": 1, "there": 1}


def test_an_interval_is_paired() -> None:
    """Texts that differ much among themselves, and a composition that is always better by the same."""
    draws = random.Random(0)
    rows = [
        row(f"{domain}{number}", domain, 10, loss, loss + 10, "here")
        for domain in ("here", "there")
        for number in range(50)
        for loss in [draws.uniform(5, 50)]
    ]
    found = compare(rows, "router")
    lower = found.way("there").composition_lower
    assert found.way("here").overall.high - found.way("here").overall.low > 1
    assert (lower.low, lower.high) == pytest.approx((1 - 1 / math.e, 1 - 1 / math.e))


def test_rows_come_back_from_their_file(tmp_path: Path) -> None:
    rows = [row("a", "here", 10, 1.5, 2.5, "here"), row("b", "there", 10, 1.5, 2.5, None)]
    write_rows(rows, tmp_path / "rows.jsonl")
    assert read_rows(tmp_path / "rows.jsonl") == rows


class Words:
    """A tokenizer of words, with a template of one word before each message and one after the last."""

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool) -> str:
        return " ".join(f"<{message['role']}> {message['content']}" for message in messages) + " <end>\n"

    def __call__(self, text: str, **_: object) -> dict[str, Any]:
        self.found = list(re.finditer(r"\S+", text))
        return {
            "input_ids": list(range(len(self.found))),
            "offset_mapping": [(word.start(), word.end()) for word in self.found],
        }

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.found[index].group() for index in ids)


def test_the_router_reads_the_first_half_of_a_prompt_and_the_second_is_scored() -> None:
    found = halves(Words(), Text("a", (("user", "one two three four five"),)), 100)
    assert (found.read, found.encoded.first, len(found.encoded.ids)) == ("one two three", 4, 7)
    cut = halves(Words(), Text("a", (("user", "one two three four five"),)), 5)
    assert (cut.read, cut.encoded.first, len(cut.encoded.ids)) == ("one two", 3, 5)


def test_the_router_reads_a_request_and_its_answer_is_scored() -> None:
    found = halves(Words(), Text("a", (("user", "write it"), ("assistant", "here it is"))), 100)
    assert (found.read, found.encoded.first) == ("write it", 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts of random words, 200 of each category, each with a twin that has one word more."""
    draws = random.Random(0)
    vocabulary = [f"{one}{two}{three}" for one in "bdfgk" for two in "aeiou" for three in "lmnrst"]
    file = tmp_path_factory.mktemp("data") / "data.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        for category in ("math", "health", "law", "physics", "code"):
            for number in range(200):
                prompt = " ".join(draws.choices(vocabulary, k=16))
                for twin, text in (("", prompt), ("+", f"{prompt} again")):
                    line = {"id": f"{category}/{number}{twin}", "prompt": text, "category": category}
                    stream.write(json.dumps(line) + "\n")
    return file


def test_the_texts_are_of_equal_number_and_the_router_s_unseen_ones_come_first(data: Path) -> None:
    learned = learned_by_router(data, keep_apart=True)
    texts = composition_texts(data, 40)
    assert {domain: len(found) for domain, found in texts.items()} == dict.fromkeys(
        ("math", "coding", "medicine", "law", "general"), 40
    )
    for found in texts.values():
        seen = [learned.has(text.id, prompt_of(text)) for text in found]
        assert seen == sorted(seen)
    assert {text.id.split("/")[0] for text in texts["general"]} == {"physics"}
    assert not any(learned.has(text.id, prompt_of(text)) for text in texts["general"])


def test_a_router_of_what_is_not_withheld_has_seen_none_of_the_texts(data: Path, tmp_path: Path) -> None:
    texts = [text for found in composition_texts(data, 40).values() for text in found]
    kept = withhold(data, texts, tmp_path / "kept.jsonl.gz")
    learned = learned_by_router(tmp_path / "kept.jsonl.gz")
    assert 1000 < kept < 2000
    assert not any(learned.has(text.id, prompt_of(text)) for text in texts)


def measured(router: str, without: str | None = None) -> Comparison:
    return compare([row for row in read_rows(COMPOSITION) if row.domain != without], router)


def test_the_composition_beats_every_single_expert() -> None:
    for without in (None, "general"):
        found = measured("shipped", without)
        assert len(found.experts) == 5
        for expert in found.experts:
            assert expert.composition_lower.low > 0, expert


def test_the_documentation_has_the_numbers_of_the_file() -> None:
    document = (ROOT / "docs" / "benchmarks" / "experts.md").read_text(encoding="utf-8")
    found, domains = measured("shipped"), measured("shipped", without="general")
    assert markdown(found) in document
    said = " ".join(document.split())
    assert f"{sum(found.texts.values())} texts, {found.tokens:,} tokens" in said
    assert f"chose the domain's expert for {percent(found.own_expert_chosen)}" in said
    assert f"`{domains.best_single.name}`, by {percent(domains.best_single.composition_lower)}" in said


def test_the_readme_has_the_numbers_of_the_file() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = measured("shipped")
    routed, best = found.way("composition").overall.value, found.best_single
    assert f"perplexity of {sum(found.texts.values())} held-out texts, routed | {routed:.2f} |" in readme
    assert (
        f"best single expert: {best.overall.value:.2f}; lower by {percent(best.composition_lower)}" in readme
    )
