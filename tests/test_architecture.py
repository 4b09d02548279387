"""The arrows between packages and between folders point one way, and the gateway process stays light."""

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "server": {"router", "memory_tiers", "experts", "cluster"},
    "cluster": {"memory_tiers", "experts"},
    "memory_tiers": {"experts"},
    "router": set(),
    "experts": set(),
}
SPOKEN = {"errors", "model_request", "validation"}
"""Modules of ``server`` itself in which its folders speak. They import none of them."""
EXCHANGE = {"exchange", "exchange.answer", "exchange.engine"}
SERVER = {
    "errors": set[str](),
    "validation": set[str](),
    "log_fields": set[str](),
    "logs": {"log_fields"},
    "operator_api": set[str](),
    "config": {"storage", "validation"},
    "metrics": set[str](),
    "storage": set[str](),
    "model_request": {"errors"},
    "error_table": {"errors"},
    "engine_factory": {"config"},
    "planning": {"config"},
    "doctor": {"config", "planning", "routing"},
    "proposal": {"config", "engine_factory", "planning", "routing"},
    "resilience": {"config", "errors"},
    "routing": {"config", "errors", "model_request"},
    "transport": {
        "config",
        "error_table",
    }
    | SPOKEN,
    "feedback": {"config", "errors", "metrics", "routing", "storage"},
    "access": {"config", "error_table", "errors", "model_request", "routing", "storage"},
    "observation": {"config", "routing"},
    "peers": {"access", "config"},
    "services": {
        "access",
        "config",
        "engine_factory",
        "feedback",
        "metrics",
        "model_request",
        "observation",
        "peers",
        "resilience",
        "routing",
        "tracing",
    },
    "tracing": {"config", "observation"},
    "live": {"config", "observation", "routing", "services", "transport"},
    "exchange.answer": {"access", "model_request", "routing", "services", "transport"},
    "exchange.engine": {"error_table", "resilience", "routing", "services"},
    "exchange": {
        "access",
        "config",
        "error_table",
        "errors",
        "exchange.answer",
        "exchange.engine",
        "feedback",
        "log_fields",
    }
    | {"model_request", "observation", "peers", "resilience", "routing", "services", "tracing", "transport"},
    "fleet": {"config"},
    "node": {"access", "config", "error_table", "errors", "exchange.engine"}
    | {"peers", "services", "transport"},
    "openai": {"access", "errors", "exchange", "model_request", "routing", "services", "transport"},
    "anthropic": {"access", "error_table", "services", "transport"} | EXCHANGE | SPOKEN,
    "responses.wire": {"error_table", "errors", "model_request", "transport", "validation"},
    "responses.kept": {"access", "config", "error_table", "errors", "responses.wire", "storage", "transport"},
    "ollama": {"access", "config", "error_table", "openai", "routes", "services", "transport"}
    | EXCHANGE
    | SPOKEN,
    "responses": {"error_table", "errors", "exchange", "exchange.engine", "model_request"}
    | {"responses.kept", "responses.wire", "services", "transport"},
    "batches": {"access", "config", "error_table", "errors", "model_request"}
    | {"resilience", "routing", "services", "storage", "transport"}
    | EXCHANGE,
    "reload": {"config", "engine_factory", "errors", "operator_api", "planning", "routing", "services"}
    | {"transport"},
    "routes": {"access", "batches", "error_table", "errors"}
    | {"responses.kept", "responses.wire", "services", "transport"},
    "routes.operators": {"access", "config", "errors", "live", "log_fields", "observation"}
    | {"operator_api", "peers", "reload", "services", "transport"},
    "compose": {"access", "batches", "config", "engine_factory", "exchange", "feedback", "live", "metrics"}
    | {
        "tracing",
        "observation",
        "openai",
        "peers",
        "planning",
        "resilience",
        "responses",
        "responses.kept",
        "routing",
        "services",
    },
    "app": {"anthropic", "compose", "error_table", "errors", "ollama", "openai", "reload", "responses"}
    | {"routes", "routes.operators", "services"},
    "serve": {"access", "app", "compose", "config", "errors", "logs", "node", "peers", "processes", "reload"}
    | {"services", "transport"},
    "processes": {"access", "config", "errors", "feedback", "observation", "peers", "resilience", "routing"}
    | {"services", "transport"},
    "worker": {
        "access",
        "app",
        "config",
        "logs",
        "observation",
        "peers",
        "processes",
        "resilience",
        "routing",
    }
    | {"serve", "services", "tracing", "transport"},
    "cli": {"access", "config", "logs", "operator_api", "planning", "routing", "serve"}
    | {"storage", "validation"},
    "cli.feedback": {"access", "cli", "config", "feedback", "routing", "storage"},
    "cli.cluster": {"cli", "cli.tiers", "config", "fleet", "operator_api"},
    "cli.tiers": {"cli", "config", "operator_api"},
    "cli.live": {"cli", "cli.tiers"},
    "cli.router": {"cli", "cli.tiers", "config", "feedback", "planning"},
    "cli.setup": {"cli", "config", "doctor", "operator_api", "proposal"},
    "cli.eval": {"cli", "cli.router", "config"},
    "cli.bench": {"cli", "cli.router", "cli.tiers", "config", "planning"},
    "cli.main": {
        "cli",
        "cli.bench",
        "cli.cluster",
        "cli.eval",
        "cli.feedback",
        "cli.live",
        "cli.router",
        "cli.setup",
        "cli.tiers",
        "config",
        "operator_api",
        "storage",
    },
}
"""Each folder of ``server``, and each of its own modules, with those that it imports."""


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


@cache
def graph() -> dict[str, set[str]]:
    """Every module of ours with the modules of ours that it imports, wherever in it."""
    files = [
        file for package in (*ALLOWED, "benchmarks", "scripts") for file in (ROOT / package).rglob("*.py")
    ]
    named = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    known = {name.removesuffix(".__init__"): file for name, file in named.items()}
    return {name: set(_imported(file, known.keys())) - {name} for name, file in known.items()}


def _imported(file: Path, known: Collection[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from {name, node.module} & {*known} if name not in known else {name}


def place(module: str) -> str:
    """The folder of ``server`` that a module is in; ``cli.main`` and modules of ``server`` are their own."""
    path = module.removeprefix("server.")
    if path in ("cli.main", "cli.__main__"):
        return "cli.main"
    folder = path if is_folder(path) else path.rpartition(".")[0]
    return folder or path


def is_folder(name: str) -> bool:
    return (ROOT / "server" / name.replace(".", "/")).is_dir()


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert len(graph()) > 500
    TopologicalSorter(graph()).prepare()


def test_the_folders_of_the_server_import_these_others_and_no_more() -> None:
    found: dict[str, set[str]] = {}
    for module, imported in graph().items():
        if module.startswith("server."):
            others = {place(name) for name in imported if name.startswith("server.")}
            found.setdefault(place(module), set()).update(others - {place(module)})
    assert found == SERVER
    TopologicalSorter(SERVER).prepare()


@pytest.mark.parametrize(
    "folder", [name for name in SERVER if (ROOT / "server" / name.replace(".", "/")).is_dir()]
)
def test_a_folder_of_the_server_says_what_it_may_import(folder: str) -> None:
    file = ROOT / "server" / folder.replace(".", "/") / "__init__.py"
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    sentence = said.rpartition("May import ")[2].removesuffix(".")
    names = set() if sentence == "nothing else of the server" else {*re.split(r", | and |,?\s+", sentence)}
    assert names - {"and"} == SERVER[folder]
