"""The metrics that the documentation names exist, and its PromQL fits their labels."""

import re
from collections.abc import Iterator

import pytest

from scripts.reference import metrics
from scripts.reference.metrics import Series
from tests.docs.markdown import ROOT, blocks, pages


def series() -> dict[str, Series]:
    """Every series, as PromQL names it."""
    return {one.name: one for one in metrics.series()}


def test_every_name_in_the_documentation_and_its_promql_exists() -> None:
    inside = "".join(file.read_text() for file in (ROOT / "experts" / "inside_vllm").rglob("*.py"))
    known = {*re.findall(r"\bcoe_\w+", inside)}
    for name, one in series().items():
        parts = ("bucket", "sum", "count") if one.kind == "histogram" else ()
        known |= {name, *(f"{name}_{part}" for part in parts)}
    for page in pages():
        assert {*re.findall(r"\bcoe_\w+", page.read_text(encoding="utf-8"))} <= known, page


def queries() -> Iterator[str]:
    for block in blocks("promql"):
        yield from block.text.splitlines()


@pytest.mark.parametrize("query", list(queries()))
def test_a_query_uses_labels_that_its_series_have(query: str) -> None:
    known = series()
    names = [re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bcoe_\w+", query)]
    assert names
    assert query.count("(") == query.count(")")
    used = {*re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query)}
    for group in re.findall(r"(?:by|ignoring) \(([^)]*)\)", query):
        used |= {*group.split(", ")}
    for name in names:
        assert used - {"le"} <= {*known[name].labels}, f"{name} has no such label"
    assert "le" not in used or "_bucket" in query
