"""Generated pages are as the code says, and complete."""

import pytest

from scripts.reference.command_line import verbs
from scripts.reference.module_map import PACKAGES
from scripts.reference.pages import COMMAND, DOCS, ROOT, stale
from server.cli.main import parser


def test_generated_pages_are_current() -> None:
    found = [page.relative_to(ROOT).as_posix() for page, _ in stale()]
    assert found == [], f"run {COMMAND}"


@pytest.mark.parametrize("verb", [name for name, _ in verbs(parser())])
def test_every_verb_of_the_command_is_in_the_reference_and_its_group_in_the_readme(verb: str) -> None:
    reference = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert f"\n## {verb}\n" in reference
    assert " ".join(verb.split()[:2]) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_option_of_a_verb_is_in_the_reference() -> None:
    sections = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8").split("\n## ")
    texts = {section.partition("\n")[0]: section for section in sections}
    missing = [
        f"{name} {option}"
        for name, verb in verbs(parser())
        for action in verb._actions
        for option in action.option_strings[-1:]
        if option != "--help" and f"`{option}" not in texts[name]
    ]
    assert missing == []


def test_every_module_is_in_the_map() -> None:
    text = (DOCS / "map.md").read_text(encoding="utf-8")
    modules = [
        file for package in PACKAGES for file in (ROOT / package).rglob("*.py") if file.name != "__init__.py"
    ]
    assert len(modules) > 250
    assert text.count("\n- `") == len(modules)
