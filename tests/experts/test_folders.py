"""The arrows between the folders of experts point one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "experts"
OWN = ("spec", "errors", "progress", "vllm_seams", "vllm_version", "embedded")
ALLOWED = {
    **dict.fromkeys(OWN, ()),
    "memory": ("errors",),
    "checkpoints": OWN,
    "footprint": (*OWN, "checkpoints"),
    "survey": (*OWN, "checkpoints", "footprint"),
    "engines": (*OWN, "checkpoints"),
    "vllm": (*OWN, "checkpoints", "engines"),
    "simulated": (*OWN, "engines", "vllm"),
    "inside_vllm": ("errors", "vllm_version", "memory", "checkpoints"),
}
"""Module or folder, and the others that it may import."""


def imported(file: Path) -> Iterator[str]:
    """Modules of experts that a file imports, as ``folder.module``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("experts."):
            yield node.module.removeprefix("experts.")


def files(name: str) -> list[Path]:
    return [*(PACKAGE / name).rglob("*.py")] or [PACKAGE / f"{name}.py"]


def test_every_module_and_folder_of_experts_has_its_arrows() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert found == ALLOWED.keys()


@pytest.mark.parametrize("name", ALLOWED)
def test_a_folder_imports_only_those_below_it(name: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in files(name)
        for module in imported(file)
        if module.split(".")[0] not in (*ALLOWED[name], name)
    ]
    assert wrong == []


def test_what_runs_inside_vllm_reads_no_more_of_a_checkpoint_than_its_headers() -> None:
    read = {
        module
        for file in files("inside_vllm")
        for module in imported(file)
        if module.startswith("checkpoints")
    }
    assert read == {"checkpoints.tensor_headers"}


def test_no_modules_of_experts_import_each_other_in_a_circle() -> None:
    modules = {
        file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): {*imported(file)}
        for file in PACKAGE.rglob("*.py")
        if file.name != "__init__.py"
    }
    while leaves := {name for name, needs in modules.items() if not needs & modules.keys()}:
        for name in leaves:
            del modules[name]
    assert modules == {}
