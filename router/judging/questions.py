"""Questions of MT-Bench and of Arena-Hard, as their authors publish them, and answers in their format."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.errors import DatasetError

TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "stem": 0.1,
    "humanities": 0.1,
}
"""Temperatures of MT-Bench's categories (FastChat, ``llm_judge/common.py``); 0 of the others."""


@dataclass(frozen=True, slots=True)
class Question:
    """``turns``: what a person says, one after another. ``references``: a right answer to each turn, where
    there are any."""

    id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


def read_questions(file: Path) -> tuple[Question, ...]:
    """Reads ``question.jsonl`` of MT-Bench, or of Arena-Hard in either version. Raises DatasetError."""
    found = [_question(tree, file, line) for line, tree in _objects(file)]
    if not found:
        raise DatasetError(f"{file} has no questions")
    twice = len(found) - len({question.id for question in found})
    if twice:
        raise DatasetError(f"{file}: {twice} lines have the id of an earlier one")
    return tuple(found)


def read_answers(file: Path) -> dict[str, str]:
    """Reads a model's first answers, by question, from its file in Arena-Hard's ``model_answer`` or
    MT-Bench's. Raises DatasetError."""
    return {_id(tree, file, line): _answer(tree, file, line) for line, tree in _objects(file)}


def _objects(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            tree = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(f"not JSON: {error}", file=file, line=number) from error
        if not isinstance(tree, dict):
            raise DatasetError("not a JSON object", file=file, line=number)
        yield number, tree


def _question(tree: Mapping[str, Any], file: Path, line: int) -> Question:
    turns = tree.get("turns", [tree.get("prompt")])
    texts = _texts(turns)
    if not texts:
        raise DatasetError("no 'turns', a list of texts, and no 'prompt'", file=file, line=line)
    references = _texts(tree.get("reference") or [])
    if references is None:
        raise DatasetError("'reference' is not a list of texts", file=file, line=line)
    return Question(_id(tree, file, line), str(tree.get("category", "")), texts, references)


def _answer(tree: Mapping[str, Any], file: Path, line: int) -> str:
    messages = tree.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        texts = _texts([messages[-1].get("content")])
    else:
        choices = tree.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else {}
        texts = _texts(first.get("turns") if isinstance(first, dict) else None)
    if not texts:
        raise DatasetError("no answer in 'choices' or 'messages'", file=file, line=line)
    return texts[0]


def _id(tree: Mapping[str, Any], file: Path, line: int) -> str:
    found = tree.get("question_id", tree.get("uid"))
    if not isinstance(found, str | int):
        raise DatasetError("no 'question_id' and no 'uid'", file=file, line=line)
    return str(found)


def _texts(values: Any) -> tuple[str, ...] | None:
    """Each is a text, an object with one as ``content``, or an object with that as ``answer``."""
    if not isinstance(values, list):
        return None
    found = []
    for value in values:
        text = value
        while isinstance(text, dict):
            text = text.get("content", text.get("answer"))
        if not isinstance(text, str):
            return None
        found.append(text)
    return tuple(found)
