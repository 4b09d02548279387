"""Folders of the router import one way, and no modules import each other in a circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROUTER = Path(__file__).resolve().parents[2] / "router"
LEAVES = {"arrays", "atomic_file", "cache_file", "decision", "errors", "parameters", "progress"}
ALLOWED = {
    "leaves": set(),
    "clients": {"leaves"},
    "conversations": {"leaves"},
    "data": {"conversations", "leaves"},
    "embedders": {"artifacts", "clients", "leaves"},
    "classifiers": {"leaves"},
    "mapping": {"classifiers", "data", "leaves"},
    "artifacts": {"classifiers", "leaves", "mapping"},
    "served": {"artifacts", "classifiers", "conversations", "embedders", "leaves", "mapping"},
    "training": {"artifacts", "classifiers", "data", "embedders", "leaves", "mapping", "served"},
    "judging": {"clients", "data", "leaves", "mapping"},
}
"""Folder to the folders that it imports. ``leaves`` and ``served`` are the modules of ``router`` itself."""


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("router."):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("router."))


def folder_of(module: str) -> str:
    parts = module.split(".")
    if len(parts) > 2:
        return parts[1]
    return "leaves" if parts[1] in LEAVES else "served"


def modules() -> dict[str, set[str]]:
    files = [file for file in ROUTER.rglob("*.py") if file.name != "__init__.py"]
    named = {".".join(file.relative_to(ROUTER.parent).with_suffix("").parts): file for file in files}
    return {name: set(imported(file)) for name, file in named.items()}


def test_a_folder_imports_only_the_folders_below_it() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in modules().items()
        for other in sorted(others)
        if folder_of(other) not in ALLOWED[folder_of(name)] | {folder_of(name)}
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = modules()
    assert len(found) > 50
    assert len(list(TopologicalSorter(found).static_order())) == len(found)
