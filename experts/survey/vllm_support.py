"""Architectures that the installed vLLM supports, looked up in its sources without importing them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experts.vllm_seams import installed_sources

_MODELS = "model_executor/models/registry.py"
_ON_CPU = frozenset(
    {"awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "gptq_marlin", "compressed-tensors"}
)
"""Methods of quantisation for which vLLM's documentation names kernels on CPU."""


@dataclass(frozen=True, slots=True)
class VllmSupport:
    """Architectures by what they do, methods of quantisation, and parsers, by their names."""

    generating: frozenset[str]
    seeing: frozenset[str]
    embedding: frozenset[str]
    judging: frozenset[str]
    """Architectures that classify, rank or reward texts."""
    quantisation: frozenset[str]
    tool_parsers: frozenset[str]
    reasoning_parsers: frozenset[str]

    def quantises(self, method: str, platform: str) -> bool:
        """Whether a checkpoint quantised by ``method`` can be served on ``platform``."""
        return method in self.quantisation and (platform != "cpu" or method in _ON_CPU)


@cache
def vllm_support(folder: Path | None = None) -> VllmSupport | None:
    """Reads what the vLLM in ``folder`` (the installed one) supports; None where there is none."""
    folder = folder or installed_sources()
    if folder is None:
        return None
    models = _tables(folder / _MODELS)
    taken = ("_TEXT_GENERATION_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")
    judging = ("_SEQUENCE_CLASSIFICATION_MODELS", "_TOKEN_CLASSIFICATION_MODELS", "_REWARD_MODELS",
               "_LATE_INTERACTION_MODELS")  # fmt: skip
    return VllmSupport(
        generating=frozenset(name for table in taken for name in models.get(table, ())),
        seeing=models.get("_MULTIMODAL_MODELS", frozenset()),
        embedding=models.get("_EMBEDDING_MODELS", frozenset()),
        judging=frozenset(name for table in judging for name in models.get(table, ())),
        quantisation=_tables(folder / "model_executor/layers/quantization/__init__.py").get(
            "QuantizationMethods", frozenset()
        ),
        tool_parsers=_tables(folder / "tool_parsers/__init__.py").get(
            "_TOOL_PARSERS_TO_REGISTER", frozenset()
        ),
        reasoning_parsers=_tables(folder / "reasoning/__init__.py").get(
            "_REASONING_PARSERS_TO_REGISTER", frozenset()
        ),
    )


def _tables(file: Path) -> dict[str, frozenset[str]]:
    """Maps the names that a module assigns to the keys of their tables, or to the texts that they list."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    return {
        target.id: frozenset(_texts(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Dict(keys=keys):
            parts: list[ast.expr | None] = [*keys]
        case ast.Subscript(slice=ast.Tuple(elts=elements)):
            parts = [*elements]
        case _:
            parts = []
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
