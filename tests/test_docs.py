"""Documentation that cannot go stale."""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from server.cli.main import parser
from server.config.batches import BatchesConfig
from server.config.feedback import FeedbackConfig
from server.config.settings import Settings, load

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "configs" / "example.yaml"
PACKAGES = ("server", "router", "memory_tiers", "experts", "benchmarks")


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for part in get_args(annotation):
            yield from models_of(part)


def fields_of(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, FieldInfo]]:
    seen.add(model)
    for name, field in model.model_fields.items():
        yield name, field
        for child in models_of(field.annotation):
            if child not in seen:
                yield from fields_of(child, seen)


def words(text: str) -> str:
    """Text without marks and line ends, so that a comment can be compared with a docstring."""
    return " ".join(text.replace("`", "").replace("#", " ").split())


@pytest.mark.parametrize(("name", "field"), list(fields_of(Settings, set())))
def test_every_setting_is_explained_in_the_example(name: str, field: FieldInfo) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert re.search(rf"(^|[ {{]){name}:", text, re.MULTILINE), f"{name} is not in {EXAMPLE.name}"
    assert field.description, f"{name} has no docstring"
    comments = words("\n".join(line for line in text.splitlines() if line.lstrip().startswith("#")))
    assert words(field.description) in comments, f"{name}: write '{words(field.description)}'"


def without_absent(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: without_absent(value) for key, value in tree.items() if value is not None}
    return tree


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.name)
def test_every_configuration_loads(file: Path) -> None:
    load(file)


def test_what_the_example_calls_defaults_are_the_defaults() -> None:
    tree = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    given = load(EXAMPLE)
    bare = Settings.model_validate(
        {
            "tiers": {"device": tree["tiers"]["device"], "host": tree["tiers"]["host"]},
            "families": {"smollm2-135m": {}},
            "experts": {"law": tree["experts"]["law"]},
        }
    )
    assert given.server == bare.server
    assert given.families == bare.families
    assert given.tiers == bare.tiers
    assert given.responses == bare.responses
    assert given.feedback is None
    assert given.batches is None


@pytest.mark.parametrize(
    ("name", "default"), [("feedback", FeedbackConfig(consent=True)), ("batches", BatchesConfig())]
)
def test_what_the_example_says_of_a_section_that_is_off_can_be_used_and_is_the_default(
    name: str, default: BaseModel
) -> None:
    commented = EXAMPLE.read_text(encoding="utf-8").partition(f"\n{name}:\n")[2].partition("\n\n")[0]
    section = yaml.safe_load(re.sub("^#", "", commented, flags=re.MULTILINE))
    assert type(default).model_validate(section) == default
    assert section.keys() == type(default).model_fields.keys()


def first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].replace("``", "")


def the_map() -> Iterator[str]:
    """One line a module: its name and the first line of its docstring."""
    for package in PACKAGES:
        yield f"{package}/"
        for file in sorted((ROOT / package).rglob("*.py"), key=lambda file: (len(file.parts), file)):
            if file.name != "__init__.py":
                yield f"  {file.relative_to(ROOT / package).as_posix():<24} {first_line(file)}"


def test_the_readmes_map_has_every_module_with_the_first_line_of_its_docstring() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.split("## Map\n\n```\n")[1].split("\n```")[0].splitlines() == list(the_map())


def verbs(parser: argparse.ArgumentParser, path: str = "coe") -> Iterator[str]:
    children = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not children:
        yield path
    for action in children:
        for name, child in action.choices.items():
            yield from verbs(child, f"{path} {name}")


@pytest.mark.parametrize("verb", list(verbs(parser())))
def test_every_verb_of_the_command_is_in_the_readme(verb: str) -> None:
    assert verb in (ROOT / "README.md").read_text(encoding="utf-8")
