"""The arrows between the packages point one way, and the gateway process stays light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "server": {"router", "memory_tiers", "experts"},
    "memory_tiers": {"experts"},
    "router": set(),
    "experts": set(),
}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_the_packages_below_it(package: str) -> None:
    forbidden = ALLOWED.keys() - ALLOWED[package] - {package}
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / package).rglob("*.py")
        for name in imports(file)
        if name.split(".")[0] in forbidden
    ]
    assert wrong == []


def test_nothing_outside_inside_vllm_imports_what_runs_inside_vllm() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for package in ALLOWED
        for file in (ROOT / package).rglob("*.py")
        if "inside_vllm" not in file.parts
        for name in imports(file)
        if name.startswith("experts.inside_vllm") and name != "experts.inside_vllm.scheduling.turns"
    ]
    assert wrong == []


def test_the_gateway_process_imports_neither_torch_nor_vllm() -> None:
    served = "server.cli.main, server.cli.serve, server.serve"
    modules = f"{served}, experts.checkpoints.prepared, router.training.train"
    program = (
        f"import sys, {modules}\n"
        "heavy = {'torch', 'vllm', 'transformers', 'numba'} & set(sys.modules)\n"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
