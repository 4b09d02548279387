"""Lists the generated pages, with the function that renders each."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scripts.reference.command_line import command_line
from scripts.reference.configuration import configuration
from scripts.reference.errors import errors
from scripts.reference.http import http
from scripts.reference.metrics import metrics
from scripts.reference.module_map import module_map

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
COMMAND = "python -m scripts.reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "map.md": lambda: module_map(ROOT),
    "reference/cli.md": command_line,
    "reference/configuration.md": configuration,
    "reference/http.md": http,
    "reference/errors.md": errors,
    "reference/metrics.md": metrics,
}
"""Path below ``docs/`` to what renders the page."""


def stale() -> Iterator[tuple[Path, str]]:
    """Pages whose text is missing or differs from the code, with the text that they should have."""
    for name, render in PAGES.items():
        page, text = DOCS / name, f"{render().rstrip()}\n"
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            yield page, text
