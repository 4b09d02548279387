"""Eligibility of experts for a request, with reasons: checked before the map is read, and for a named
expert."""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from experts.spec import Capability, Expert
from server.errors import ContextTooLong, NotCapable
from server.model_request import ModelRequest

Reason = Capability | Literal["context"]
_PARTS: Mapping[str, Capability] = {"image_url": "images", "input_audio": "audio", "file": "files"}
"""Type of a content part to the capability that it needs."""
_TOKEN = re.compile(r"[^\W_]{1,20}")
"""Run of letters and digits that may be one token. Few tokens are longer; longer runs count once per 20."""
_BETWEEN = re.compile(r"[\W_]")
PIECE = 50_000
"""Characters searched at once."""
LONG = 30_000
"""Characters from which tokens are counted off the event loop: counting them takes a millisecond."""


@dataclass(frozen=True)
class Needs:
    """The needs of a request that its expert must meet. ``param``: the field that asks for a capability.
    ``texts``: what it makes an expert read, of which at most ``longest`` tokens are counted.
    ``answer``: tokens to be kept free for it; None: as the expert's configuration says."""

    capabilities: Mapping[Capability, str]
    texts: tuple[str, ...]
    longest: int
    answer: int | None

    @cached_property
    def prompt(self) -> int:
        """Returns the least number of prompt tokens: see ``least_tokens``."""
        return least_tokens(iter(self.texts), self.longest)

    @property
    def characters(self) -> int:
        return sum(map(len, self.texts))

    def missing(self, expert: Expert, window: int) -> Reason | None:
        """Returns the first need that ``expert``, with a context of ``window`` tokens, surely cannot meet.
        None: it can, or it is not known."""
        for capability in self.capabilities:
            if capability == "tools" and not expert.parses_tools:
                return capability
            if expert.capabilities is not None and capability not in expert.capabilities:
                return capability
        answer = expert.generation.max_tokens if self.answer is None else self.answer
        room = window - (answer or 0)
        # Most texts are so short that their tokens need not be counted: they have no more than characters.
        return "context" if self.characters > room and self.prompt > room else None


def needs_of(request: ModelRequest, longest: int) -> Needs:
    """Returns the needs of a request. ``longest``: the largest context window there is, in tokens; counting
    goes on no further."""
    body = request.body
    capabilities: dict[Capability, str] = {}
    if body.get("tools") and body.get("tool_choice") != "none":
        capabilities["tools"] = "tools"
    texts: list[str] = []
    for number, message in enumerate(request.messages):
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
            continue
        for position, part in enumerate(_parts(content)):
            capability = _PARTS.get(str(part.get("type")))
            if capability is not None:
                capabilities.setdefault(capability, f"messages[{number}].content[{position}]")
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
    answer = (
        body.get("max_tokens") if body.get("max_completion_tokens") is None else body["max_completion_tokens"]
    )
    # vLLM's own field: the prompt is made to fit.
    cut = request.any_length or body.get("truncate_prompt_tokens") is not None
    return Needs(
        capabilities,
        texts=() if cut else tuple(texts),
        longest=longest,
        answer=answer if type(answer) is int and answer > 0 else None,
    )


def least_tokens(texts: Iterator[str], limit: int) -> int:
    """Counts the tokens that ``texts`` have at least, whatever the tokenizer, up to ``limit`` and one.

    Tokenizers cut between words, so each run of letters and digits is a token or more; marks and spaces may
    be part of the next one. Prose has about a third more tokens, code two or three times as many. An expert
    that this rules out could not have taken the request; one that it lets pass may still refuse it.
    """
    tokens = itertools.chain.from_iterable(map(_least_tokens, texts))
    return sum(1 for _ in itertools.islice(tokens, limit + 1))


def _least_tokens(text: str) -> Iterator[re.Match[str]]:
    """Yields matches piece by piece: a search holds up all other threads. Pieces end between tokens, if they
    can. Where one may be cut in two, its rest is left out."""
    start, cut = 0, False
    while start < len(text):
        between = _BETWEEN.search(text, start + PIECE, start + PIECE + 1000)
        end = start + PIECE if between is None else between.start()
        yield from itertools.islice(_TOKEN.finditer(text, start, end), int(cut), None)
        start, cut = end, between is None


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Eligible experts for one request. ``windows``: expert to its context window in tokens. ``ruled_out``:
    expert to why it cannot."""

    needs: Needs
    windows: Mapping[str, int]
    ruled_out: Mapping[str, Reason]

    @classmethod
    def of(
        cls, request: ModelRequest, experts: Sequence[Expert], families: Mapping[str, int]
    ) -> "Eligibility":
        """Judges ``experts`` for ``request``. ``families``: family to its context window in tokens."""
        windows = {expert.name: families[expert.family] for expert in experts}
        needs = needs_of(request, max(windows.values()))
        missing = {expert.name: needs.missing(expert, windows[expert.name]) for expert in experts}
        return cls(needs, windows, {name: reason for name, reason in missing.items() if reason is not None})

    def among(self, names: Collection[str]) -> frozenset[str]:
        """Returns the eligible experts among ``names``. Raises ContextTooLong or NotCapable when there are
        none."""
        able = frozenset(names) - self.ruled_out.keys()
        if not able:
            raise self._refusal(sorted(names))
        return able

    def _refusal(self, names: Sequence[str]) -> ContextTooLong | NotCapable:
        missing = [self.ruled_out[name] for name in names]
        for capability, param in self.needs.capabilities.items():
            if capability in missing:
                said = [f"{name} {why(reason)}" for name, reason in zip(names, missing, strict=True)]
                return NotCapable(f"This request needs {capability}: {', '.join(said)}.", param)
        largest = max(self.windows[name] for name in names)
        answer = "" if self.needs.answer is None else f" and {self.needs.answer} for the answer"
        return ContextTooLong(
            f"This model's maximum context length is {largest} tokens ({', '.join(names)}), and this request "
            f"needs at least {self.needs.prompt} for its messages{answer}. Send less, or ask for less.",
            "messages",
        )


def why(reason: Reason) -> str:
    """Says in words why an expert was ruled out."""
    return "has too small a context window" if reason == "context" else f"does not take {reason}"


def _parts(content: object) -> list[Mapping[str, Any]]:
    """Iterates over the parts of a content that is a list of them."""
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
