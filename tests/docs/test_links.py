"""Links, and what the texts name of the repository, lead somewhere."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages, spans

TOP = (
    "server",
    "router",
    "cluster",
    "memory_tiers",
    "experts",
    "benchmarks",
    "scripts",
    "tests",
    "configs",
    "docs",
    ".ci",
)
PATH = re.compile(rf"(?:{'|'.join(map(re.escape, TOP))})/[\w./*{{}}-]*")
MODULE = re.compile(r"(?:[\w-]+/)*[\w-]+\.py")


def test_links_lead_to_files_and_headings() -> None:
    wrong = []
    for page in pages():
        for link in links(page):
            target, _, fragment = link.partition("#")
            if re.match(r"https?://", target):
                continue
            file = (page.parent / target).resolve() if target else page
            if not file.exists() or (fragment and fragment not in anchors(file)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert wrong == []


@cache
def files() -> frozenset[str]:
    """Paths of the repository's Python files."""
    return frozenset(file.relative_to(ROOT).as_posix() for top in TOP for file in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_of_the_repository_exist(page: Path) -> None:
    wrong = []
    for span in spans(page):
        if PATH.fullmatch(span) and not any(ROOT.glob(span.rstrip("/"))):
            wrong.append(span)
        if MODULE.fullmatch(span) and not any(f"/{name}".endswith(f"/{span}") for name in files()):
            wrong.append(span)
    assert wrong == []


def test_pages_that_the_code_names_exist() -> None:
    named = re.compile(r"\bdocs/[\w/-]+\.md\b")
    texts = [*(ROOT / name for name in files()), *(ROOT / "configs").glob("*.yaml"), *ROOT.glob("*.md")]
    wrong = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in texts
        for name in named.findall(file.read_text(encoding="utf-8"))
        if not (ROOT / name).is_file()
    }
    assert wrong == set()
