"""Reads the documentation as its tests need it: pages, fenced blocks, code spans, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"

FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``language`` is what stands behind the fence."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page that people read, generated ones included."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def blocks(*languages: str) -> Iterator[Block]:
    """The fenced blocks in one of ``languages``; without any, all."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            block = Block(page, text.count("\n", 0, found.start()) + 1, found[2].strip(), found[3])
            if not languages or block.language in languages:
                yield block


def spans(page: Path) -> Iterator[str]:
    """Yields the code spans of a page, without its fenced blocks."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from (" ".join(found.split()) for found in SPAN.findall(text))


def links(page: Path) -> Iterator[str]:
    """The targets of links, fenced blocks left out."""
    yield from LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings have, as GitHub and MkDocs both make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
