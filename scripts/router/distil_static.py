"""Makes the static embedder that the package ships, router/minilm/static.safetensors.

    python -m scripts.router.distil_static --data train.jsonl.gz --wordnet FOLDER --cache vectors.sqlite \\
        --out FILE

``--data`` are the prompts of the routing data (not part of this repository), of which only the part that fits
routers is read; ``--wordnet`` is a folder with WordNet's data.noun and so on, as in Debian's package
wordnet-base. Python's documentation and code come from the modules of the interpreter that runs this.
``--cache`` keeps the teacher's vectors, so that an interrupted run goes on. To distil on texts of your own,
call ``scripts.router.distil.distil`` as ``main`` does.
"""

import argparse
import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from router.data.dataset import question_of, read_examples, split
from router.data.plain_prompts import plain_prompts
from router.embedders.cache import EmbeddingCache
from router.embedders.minilm import MiniLmOnnx
from router.embedders.model_files import TOKENIZER
from router.embedders.static_table import StaticTable
from router.embedders.wordpiece import WordPieces
from scripts.router.distil import distil

GLOSSES, PARAGRAPHS, FUNCTIONS = 40_000, 6_000, 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the static embedder that the package ships.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    texts = corpus(options.data, options.wordnet)
    print(f"{len(texts):,} texts, {sum(map(len, texts)):,} characters", flush=True)
    teacher = EmbeddingCache(MiniLmOnnx(), options.cache)
    for done in range(0, len(texts), 1000):
        teacher.embed(texts[done : done + 1000])
        print(f"{done:,} embedded", end="\r", flush=True)
    table = distil(teacher, WordPieces.read(TOKENIZER), texts, dimension=384)
    teacher.close()
    options.out.write_bytes(table)
    print(f"{StaticTable.read(options.out)}, sha256 {hashlib.sha256(table).hexdigest()}")


def corpus(data: Path, wordnet: Path) -> list[str]:
    return list(
        dict.fromkeys(
            [
                *prompts(data),
                *some(glosses(wordnet), GLOSSES),
                *some(python_paragraphs(), PARAGRAPHS),
                *some(python_functions(), FUNCTIONS),
            ]
        )
    )


def prompts(data: Path) -> Iterator[str]:
    """Yields the prompts that routers are fitted on, with their questions without options and the first
    sentences of these, as people would rather write; and the plain ones."""
    for example in split(read_examples(data)).fit:
        yield example.prompt
        for plainer in (question_of(example.prompt), first_sentence_of(example.prompt)):
            if len(plainer.split()) >= 4:  # shorter ones say too little
                yield plainer
    yield from (example.prompt for example in plain_prompts())


def first_sentence_of(prompt: str) -> str:
    return re.split(r"(?<=[.?!])\s", question_of(prompt), maxsplit=1)[0].strip()


def glosses(wordnet: Path) -> Iterator[str]:
    """``sonnet: a verse form consisting of 14 lines with a fixed rhyme scheme``."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (wordnet / f"data.{part}").read_text(encoding="utf-8").splitlines():
            fields, bar, gloss = line.partition(" | ")
            if bar and not line.startswith("  "):
                _, _, _, count, *rest = fields.split(" ")
                words = [re.sub(r"\(.*\)$", "", word) for word in rest[: 2 * int(count, 16) : 2]]
                yield f"{', '.join(words).replace('_', ' ')}: {gloss.strip()}"


def python_paragraphs() -> Iterator[str]:
    for node in _python_nodes():
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                text = " ".join(paragraph.split())
                letters = sum(character.isalpha() or character == " " for character in text)
                if 60 <= len(text) <= 700 and letters > 0.8 * len(text):
                    yield text


def python_functions() -> Iterator[str]:
    for node in _python_nodes():
        if isinstance(node, ast.FunctionDef):
            code = ast.unparse(node)
            if 60 <= len(code) <= 800:
                yield code


def _python_nodes() -> Iterator[ast.AST]:
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.rglob("*.py")):
        if not {"site-packages", "test", "tests", "lib2to3"} & set(file.relative_to(library).parts):
            yield from ast.walk(ast.parse(file.read_bytes()))


def some(texts: Iterable[str], count: int) -> list[str]:
    """A sample that does not depend on order."""
    return sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).digest())[:count]


if __name__ == "__main__":
    main()
