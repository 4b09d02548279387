"""The texts that train and judge the embedded experts, their split, and the perplexity measured on them.

``math``, ``medicine`` and ``law`` are the prompts of those categories in the routing data (``--data``, a
gzipped file of JSON lines; not part of this repository). ``coding`` is Python's own standard library: a
function's name and docstring as the request, its code as the answer.

A text is held out when the hash of its twin group says so, one in five. Texts whose sets of words overlap by
more than half are twins and stay on one side, so no held-out text has a near copy among the training texts.
"""

import ast
import gzip
import hashlib
import importlib.util
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import torch

CATEGORIES = {"math": ("math",), "medicine": ("health", "biology"), "law": ("law",)}
DOMAINS = ("math", "coding", "medicine", "law")
TWIN_OVERLAP = 0.5
HELD_OUT_ONE_IN = 5
STANDARD_LIBRARY = (
    "_pydecimal", "_pyio", "abc", "aifc", "argparse", "ast", "asyncio.base_events", "asyncio.locks",
    "asyncio.queues", "asyncio.streams", "asyncio.tasks", "base64", "bdb", "bisect", "bz2",
    "calendar", "cgi", "cmd", "code", "codecs", "collections", "colorsys", "compileall",
    "configparser", "contextlib", "copy", "csv", "ctypes.util", "dataclasses", "datetime",
    "difflib", "dis", "doctest", "email.header", "email.headerregistry", "email.message",
    "email.utils", "enum", "filecmp", "fileinput", "fnmatch", "fractions", "ftplib", "functools",
    "getopt", "gettext", "glob", "gzip", "heapq", "hmac", "html", "html.parser", "http.client",
    "http.cookiejar", "http.cookies", "http.server", "imaplib", "importlib._bootstrap",
    "importlib._bootstrap_external", "inspect", "ipaddress", "json", "json.decoder", "json.encoder",
    "keyword", "linecache", "locale", "logging", "logging.config", "logging.handlers", "lzma",
    "mailbox", "mimetypes", "multiprocessing.managers", "multiprocessing.pool", "netrc", "ntpath",
    "numbers", "optparse", "os", "pathlib", "pdb", "pickle", "pickletools", "pkgutil", "platform",
    "plistlib", "poplib", "posixpath", "pprint", "profile", "pstats", "pyclbr", "pydoc", "queue",
    "quopri", "random", "reprlib", "sched", "selectors", "shelve", "shlex", "shutil", "smtplib",
    "socket", "socketserver", "ssl", "statistics", "string", "subprocess", "sysconfig", "tarfile",
    "tempfile", "textwrap", "threading", "timeit", "tokenize", "traceback", "tracemalloc", "turtle",
    "types", "typing", "unittest.case", "unittest.mock", "urllib.parse", "urllib.request",
    "urllib.robotparser", "uuid", "venv", "warnings", "wave", "weakref", "webbrowser",
    "wsgiref.handlers", "xml.dom.minidom", "xml.etree.ElementTree", "xmlrpc.client", "zipfile",
    "zipimport",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """A conversation of one turn or two; only its last message is learned and scored."""

    id: str
    messages: tuple[tuple[str, str], ...]
    """Role and content."""

    @property
    def scored(self) -> str:
        return self.messages[-1][1]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a text in the chat template; ``first`` is the first scored position."""

    ids: list[int]
    first: int


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean loss per token; the interval is a bootstrap over texts (95 %)."""

    value: float
    low: float
    high: float
    texts: int
    tokens: int


def domain_texts(domain: str, data: Path) -> list[Text]:
    return library_texts() if domain == "coding" else prompt_texts(data, CATEGORIES[domain])


def prompt_texts(data: Path, categories: Sequence[str]) -> list[Text]:
    with gzip.open(data, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Text(row["id"], (("user", row["prompt"]),)) for row in rows if row["category"] in categories]


def library_texts() -> list[Text]:
    """Documented functions of the standard library that are neither methods, nor trivial, nor long."""
    return [text for module in STANDARD_LIBRARY for text in _functions(module)]


def _functions(module: str) -> Iterable[Text]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef) or len(node.body) < 2 or _is_method(node):
            continue
        documentation = ast.get_docstring(node)
        if documentation is None:
            continue
        node.body = node.body[1:]
        code = ast.unparse(node)
        if 100 <= len(code) <= 1200:
            request = f"Write a Python function `{node.name}`: {documentation.split(chr(10) * 2)[0]}"
            answer = f"```python\n{code}\n```"
            yield Text(f"{module}:{node.lineno}", (("user", request), ("assistant", answer)))


def _is_method(node: ast.FunctionDef) -> bool:
    """Says whether it is a method, which does not answer a request for a function."""
    first = [*node.args.posonlyargs, *node.args.args][:1]
    return any(argument.arg in ("self", "cls") for argument in first)


def split(texts: Sequence[Text]) -> tuple[list[Text], list[Text]]:
    """Training texts and held-out texts."""
    groups = twin_groups(texts)
    held_out = [int(_digest(group)[:8], 16) % HELD_OUT_ONE_IN == 0 for group in groups]
    return (
        [text for text, out in zip(texts, held_out, strict=True) if not out],
        [text for text, out in zip(texts, held_out, strict=True) if out],
    )


def twin_groups(texts: Sequence[Text]) -> list[str]:
    """For each text the id of the first text it is connected to by overlaps of words."""
    words = [set(re.findall(r"\w+", text.scored.lower())) for text in texts]
    columns = {word: column for column, word in enumerate(sorted(set().union(*words)))}
    matrix = np.zeros((len(texts), len(columns)), dtype=np.float32)
    for row, found in enumerate(words):
        matrix[row, [columns[word] for word in found]] = 1
    common = matrix @ matrix.T
    sizes = common.diagonal()
    overlaps = common / np.maximum(sizes[:, None] + sizes[None, :] - common, 1) > TWIN_OVERLAP
    first = list(range(len(texts)))
    for row in range(len(texts)):  # every earlier twin's group joins the smallest of them
        joined = {first[other] for other in np.flatnonzero(overlaps[row, : row + 1])}
        first = [min(joined) if group in joined else group for group in first]
    return [texts[group].id for group in first]


def sample(texts: Sequence[Text], count: int) -> list[Text]:
    """``count`` texts, the same whatever their order."""
    return sorted(texts, key=lambda text: _digest("sample " + text.id))[:count]


def encode(tokenizer: Any, text: Text, longest: int) -> Encoded:
    """Encodes a text in the tokenizer's own chat template; the scored part ends with the end of the turn if
    it fits."""
    messages = [{"role": role, "content": content} for role, content in text.messages]
    rendered: str = tokenizer.apply_chat_template(messages, tokenize=False)
    begin = rendered.rindex(text.scored)
    encoding = tokenizer(rendered.rstrip("\n"), return_offsets_mapping=True, add_special_tokens=False)
    first = next(i for i, (_, end) in enumerate(encoding["offset_mapping"]) if end > begin)
    return Encoded(encoding["input_ids"][:longest], first)


def losses(model: Any, batch: Sequence[Encoded]) -> torch.Tensor:
    """The loss of every scored token, texts one after the other. Logits are made for scored tokens only."""
    width = max(len(text.ids) for text in batch)
    ids = torch.tensor([text.ids + [0] * (width - len(text.ids)) for text in batch])
    scored = torch.zeros(ids.shape, dtype=torch.bool)
    for row, text in enumerate(batch):
        scored[row, text.first : len(text.ids)] = True
    # Padding is on the right and attention is causal: no scored token sees it, so no mask is needed.
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][scored[:, 1:]]
    return torch.nn.functional.cross_entropy(
        model.lm_head(hidden).float(), ids[:, 1:][scored[:, 1:]], reduction="none"
    )


def perplexity(model: Any, texts: Sequence[Encoded], batch_size: int = 8) -> Perplexity:
    texts = sorted((text for text in texts if len(text.ids) > text.first), key=lambda text: len(text.ids))
    sums: list[float] = []
    counts = [len(text.ids) - text.first for text in texts]
    with torch.no_grad():
        for begin in range(0, len(texts), batch_size):
            batch = texts[begin : begin + batch_size]
            parts = losses(model, batch).split([len(text.ids) - text.first for text in batch])
            sums += [float(part.sum()) for part in parts]
    draws = random.Random(0)
    means = sorted(
        sum(sums[i] for i in drawn) / sum(counts[i] for i in drawn)
        for drawn in (draws.choices(range(len(texts)), k=len(texts)) for _ in range(1000))
    )
    return Perplexity(exp(sum(sums) / sum(counts)), exp(means[25]), exp(means[975]), len(texts), sum(counts))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
