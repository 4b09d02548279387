"""The configurations that ship load, and the annotated example says what the models say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from server.config.batches import BatchesConfig
from server.config.feedback import FeedbackConfig
from server.config.settings import Settings, load
from tests.docs.markdown import ROOT, pages, spans

EXAMPLE = ROOT / "configs" / "example.yaml"


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


def setting(path: str) -> bool:
    """Whether ``path`` is a setting, with any name where the section is a mapping of names."""
    annotation: Any = Settings
    for part in path.split("."):
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            continue
        model = next((model for model in models_of(annotation) if part in model.model_fields), None)
        if model is None:
            return False
        annotation = model.model_fields[part].annotation
    return True


SECTIONS = re.compile(rf"({'|'.join(Settings.model_fields)})(\.[\w*-]+)+(?<!\.py)(?<!\.sqlite)")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_that_the_documentation_names_exist(page: Path) -> None:
    named = {span for span in spans(page) if SECTIONS.fullmatch(span)}
    modules = {span for span in named if (ROOT / span.replace(".", "/")).with_suffix(".py").is_file()}
    assert {span for span in named - modules if not setting(span)} == set()
