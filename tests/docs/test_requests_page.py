"""The page on requests has every header, and every field of an explanation."""

import re
from typing import get_args

from router.composition import RoutedBy
from server.routing.explanation import Decided, Explanation
from tests.docs.markdown import DOCS, ROOT

PAGE = DOCS / "guides" / "requests.md"


def test_every_header_and_what_may_choose_an_expert_are_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    code = "".join(file.read_text() for file in (ROOT / "server").rglob("*.py"))
    headers = set(re.findall(r'"(x-coe-[a-z-]+)"', code))
    assert len(headers) > 9
    assert {name for name in headers if f"`{name}" not in text} == set()
    table = text.split("| `x-coe-routed-by` | the expert is |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE) == [*get_args(RoutedBy)]


def test_an_explanation_s_fields_are_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    fields = {*Explanation.model_fields, *Decided.model_fields} - {"model"}
    assert {name for name in fields if f"`{name}`" not in text} == set()
