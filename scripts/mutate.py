"""Mutation testing of the tiers' state machine: makes one change at a time and sees whether a test fails.

    python scripts/mutate.py --sample 200 --seed 1

Each mutant runs in a process of its own: the unit tests of the state first, then random traces. Prints the
mutants that no test noticed, and the share of those that one did.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pydantic  # noqa: F401  imported once, before the processes part
import pytest

ROOT = Path(__file__).resolve().parent.parent
MUTATED = ROOT / "memory_tiers" / "state"
TESTS = ROOT / "tests" / "memory_tiers" / "state"
UNIT = ("test_tier_state.py", "test_tier_changes.py", "test_policy.py", "test_host_filled.py")
SPARED = ("__init__.py", "invariants.py")
TIMEOUT_S = 300
"""Seconds after which a mutant counts as noticed: it goes on for ever."""
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module. ``source``: the module's text with the change."""

    module: str
    line: int
    change: str
    source: str


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Yields every mutant of a module; docstrings, ``__repr__``, annotations and messages are left alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for number, node in enumerate(_nodes(tree)):
        for change in _changes(node):
            mutated = copy.deepcopy(tree)
            before = ast.unparse(node)
            _apply(list(_nodes(mutated))[number], change)
            mutated = ast.fix_missing_locations(mutated)
            line = getattr(node, "lineno", 0)
            yield Mutant(module, line, f"{change}: {before.splitlines()[0][:80]}", ast.unparse(mutated))


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
            continue
        if isinstance(child, ast.FunctionDef) and child.name == "__repr__":
            continue
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        yield child
        yield from _nodes(child)


def _changes(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield "compare"
        case ast.BinOp(op=op, right=right) if type(op) in SWAPS and not isinstance(right, ast.Constant):
            yield "calculate"
        case ast.BoolOp():
            yield "combine"
        case ast.UnaryOp(op=ast.Not()):
            yield "affirm"
        case ast.If() | ast.IfExp():
            yield "always"
            yield "never"
        case ast.Expr(value=ast.Call()) | ast.Assign() | ast.AugAssign():
            yield "leave out"
        case ast.Constant(value=bool()):
            yield "contrary"


def _apply(node: ast.AST, change: str) -> None:
    match node, change:
        case ast.Compare(), "compare":
            node.ops = [_swapped(node.ops[0])]  # type: ignore[list-item]
        case ((ast.BinOp() | ast.BoolOp()), _):
            node.op = _swapped(node.op)  # type: ignore[assignment]
        case ast.UnaryOp(), "affirm":
            node.op = ast.UAdd()
            node.operand = ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])
        case ((ast.If() | ast.IfExp()), _):
            node.test = ast.Constant(change == "always")
        case ((ast.Expr() | ast.Assign() | ast.AugAssign()), "leave out"):
            node.__class__ = ast.Pass  # type: ignore[assignment]
        case ast.Constant(), "contrary":
            node.value = not node.value


def _swapped(op: ast.AST) -> ast.AST:
    return SWAPS[type(op)]()


class Loading(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the mutated module in place of the one in the file."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.source, f"<mutant of {self._mutant.module}>", "exec"), module.__dict__)


def noticed(mutant: Mutant, traces: int) -> bool:
    """Runs the tests in a process of their own."""
    child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT_S)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.meta_path.insert(0, Loading(mutant))
        failed = True
        try:
            unit = [str(TESTS / name) for name in UNIT]
            failed = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *unit]) != 0
            if not failed:
                _trace(traces)
        except BaseException:
            failed = True
        os._exit(1 if failed else 0)
    _, status = os.waitpid(child, 0)
    return status != 0


def _trace(traces: int) -> None:
    from tests.memory_tiers.state.test_tier_state_random import play

    for seed in range(traces):
        play(seed)


def _unchanged(file: Path) -> Mutant:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return Mutant(module, 0, "none", ast.unparse(ast.parse(file.read_text(encoding="utf-8"))))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, help="so many mutants, drawn by the seed; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--traces", type=int, default=1000, help="random traces after the unit tests")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no mutant after so many")
    options = parser.parse_args()
    files = [
        file for file in sorted(MUTATED.rglob("*.py")) if file.name not in ("__init__.py", "invariants.py")
    ]
    mutants = [mutant for file in files for mutant in mutants_of(file)]
    everything = len(mutants)
    if noticed(_unchanged(files[0]), 0):
        sys.exit("a test fails without any change: nothing can be said of mutants")
    random.Random(options.seed).shuffle(mutants)
    end, tried, missed = time.monotonic() + 60 * options.minutes, 0, 0
    for mutant in mutants[: options.sample]:
        if time.monotonic() > end:
            break
        tried += 1
        if not noticed(mutant, options.traces):
            missed += 1
            print(f"{mutant.module}:{mutant.line}: {mutant.change}", flush=True)
    print(f"{tried - missed} of {tried} mutants noticed, of {everything} in all")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
