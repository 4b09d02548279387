"""Arrows between the folders of memory_tiers point one way, and no modules import each other in a circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "memory_tiers"
MAY_IMPORT = {
    "": {""},
    "state": {"", "state", "state.records", "state.decision"},
    "state.decision": {"", "state.decision", "state.records"},
    "state.records": {"", "state.records"},
    "driver": {"", "driver", "state"},
    "planning": {"", "planning", "simulator"},
    "simulator": {"", "simulator", "state", "state.records"},
}
"""The folders that each folder's modules may import, named from the package on, which is ""."""


def modules() -> dict[str, Path]:
    files = (ROOT / PACKAGE).rglob("*.py")
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}


def imports(file: Path, known: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from (name for name in names if name in known)


def folder(module: str) -> str:
    return module.rpartition(".")[0].removeprefix(PACKAGE).removeprefix(".")


def test_every_folder_says_what_it_holds_and_what_it_may_import() -> None:
    folders = {folder(module) for module in modules()}
    assert folders == MAY_IMPORT.keys()
    for name in folders:
        text = (ROOT / PACKAGE / name.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
        assert "import" in (ast.get_docstring(ast.parse(text)) or ""), name


@pytest.mark.parametrize("importing", MAY_IMPORT)
def test_a_folder_imports_only_the_folders_below_it(importing: str) -> None:
    known = modules()
    wrong = [
        f"{module} imports {name}"
        for module, file in known.items()
        if folder(module) == importing
        for name in imports(file, set(known))
        if folder(name) not in MAY_IMPORT[importing]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = modules()
    graph = {module: set(imports(file, set(known))) - {module} for module, file in known.items()}
    TopologicalSorter(graph).prepare()
