"""Renders the module map: each folder with its sentence, each module with the first line of its docstring."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("server", "router", "cluster", "memory_tiers", "experts", "benchmarks", "scripts")

HEAD = """# Module map

Every folder with the sentence of its `__init__.py`, every module with the first line of its docstring.
[The life of a request](concepts/life-of-a-request.md) follows one request through them.
"""


def module_map(root: Path) -> str:
    """The page; folders in the order of their packages, then by name."""
    return "\n".join([HEAD, *(line for package in PACKAGES for line in _folders(root, root / package))])


def _folders(root: Path, package: Path) -> Iterator[str]:
    for folder in sorted({file.parent for file in package.rglob("*.py")}):
        depth = len(folder.relative_to(root).parts)
        yield f"{'#' * min(depth + 1, 4)} {folder.relative_to(root).as_posix()}\n"
        if sentence := _sentence(folder / "__init__.py"):
            yield f"{sentence}\n"
        modules = sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")
        yield from (f"- `{file.name}`: {_first_line(file)}" for file in modules)
        yield ""


def _sentence(file: Path) -> str:
    """The first paragraph of the docstring; empty where there is no such file."""
    if not file.is_file():
        return ""
    return " ".join(_docstring(file).partition("\n\n")[0].split()).replace("``", "`")


def _first_line(file: Path) -> str:
    return _docstring(file).partition("\n")[0].replace("``", "`")


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
