"""Aliases: which model a name stands for, and what is refused as one."""

from pathlib import Path

import pytest

from server.config.aliases import Aliases
from server.config.settings import load
from tests.server.config.test_settings import MINIMAL, problem

GIVEN = {"gpt-4o": "coe", "gpt-4o-mini": "coe:8B", "gpt-*": "law", "*-large*": "embedder", "coe:fast": "law"}
ALIASES = Aliases(GIVEN, experts={"law", "gpt-oss", "embedder"}, compositions={"coe"})


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o", "coe"),
        ("gpt-4o-mini", "coe:8B"),
        ("gpt-4.1", "law"),
        ("gpt-", "law"),
        ("gpt", None),
        ("my-gpt-4", None),
        ("text-embedding-3-large", "embedder"),
        ("x-largest", "embedder"),
        ("gpt-oss", None),  # an expert's own name
        ("law", None),
        ("coe", None),
        ("coe:31B", None),
        ("coe:fast", "law"),
        ("nobody", None),
    ],
)
def test_the_model_that_a_name_stands_for(name: str, model: str | None) -> None:
    assert ALIASES.model_of(name) == model


def test_a_pattern_of_everything_leaves_models_and_budgets_what_they_are() -> None:
    aliases = Aliases({"*": "coe"}, experts={"law"}, compositions={"coe"})
    assert [aliases.model_of(name) for name in ("law", "coe", "coe:31B")] == [None, None, None]
    assert [aliases.model_of(name) for name in ("", "coe:latest", "llama3:8b")] == ["coe"] * 3


def test_a_key_may_be_permitted_by_the_name_the_pattern_or_the_model() -> None:
    assert ALIASES.names_of("gpt-4o-mini") == ("gpt-4o-mini", "gpt-4o-mini", "coe")
    assert ALIASES.names_of("gpt-4.1") == ("gpt-4.1", "gpt-*", "law")
    assert ALIASES.names_of("coe:31B") == ("coe:31B", "coe")


def test_a_long_name_is_compared_with_a_pattern_of_many_parts_at_once() -> None:
    aliases = Aliases({"a*" * 30 + "b": "law"}, experts={"law"})
    assert aliases.model_of("a" * 10**6) is None


@pytest.mark.parametrize(
    ("aliases", "says"),
    [
        ("{gpt-4o: lwa}", "aliases.gpt-4o: 'lwa' is not defined; did you mean 'law'?"),
        ("{law: law}", "aliases.law: an expert has this name; choose another"),
        ("{coe: law}", "aliases.coe: a composition has this name; choose another"),
        ("{a: b, b: law}", "aliases.a: 'b' is an alias itself; write what that is, 'law'"),
        ("{a: coe:8X}", "aliases.a: 'coe:8X' is not defined; did you mean 'coe'?"),
        ("{'': law}", "aliases.: an alias is a name without white space around it; write one"),
        ("{4: law}", "aliases.4.[key]: Input should be a valid string"),
        ("[gpt-4o]", "aliases: Input should be a valid dictionary"),
    ],
)
def test_what_is_no_alias_is_named_with_what_to_write(tmp_path: Path, aliases: str, says: str) -> None:
    text = f"{MINIMAL}compositions: {{coe: {{artifact: made}}}}\naliases: {aliases}\n"
    assert problem(tmp_path, text) == says


def test_keys_may_name_aliases_patterns_and_what_fits_one(tmp_path: Path) -> None:
    text = f"{MINIMAL}aliases: {{gpt-*: law, mini: law}}\nserver: {{api_keys: [{{key: a, models: %s}}]}}\n"
    (tmp_path / "config.yaml").write_text(text % "[gpt-*, gpt-9, mini]")
    assert load(tmp_path / "config.yaml").aliases == {"gpt-*": "law", "mini": "law"}
    says = "server.api_keys.0.models: 'minni' is not defined; did you mean 'mini'?"
    assert problem(tmp_path, text % "[minni]") == says
