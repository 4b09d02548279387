"""The question of a conversation: the person's text, without what programs wrote and without the answers."""

import re
from collections.abc import Mapping, Sequence

from router.conversations.harness import MOST_MARKS, without_harness

_OPENINGS = ("and", "but", "so", "then", "also", "or", "what about", "how about", "what if")
_REFERENCES = frozenset(
    re.findall(r"\w+", "it its that this those these they them their he she his her above previous former")
)
_TOPICLESS = frozenset(
    re.findall(
        r"\w+",
        """
        a again an are can clarify continue could detail details do does elaborate else even example
        examples exactly explain further give go great how i in is keep less long longer me mean
        more much next no not of ok okay on one please really right shorter show simpler some step
        steps still sure tell thank thanks the to try was way well what when where which who why
        with would yes you
        """,
    )
)
_LONGEST_FOLLOW_UP = 6
"""Words. A longer question brings its own topic."""
_LONGEST_WORDS = 200
"""Characters that so many words have at most."""


def prompt_of(messages: Sequence[Mapping[str, object]]) -> str:
    """The last user turn's text, or "" when there is none.

    A bare follow-up ("and why?", "explain that again") says nothing about its topic, so it comes after the
    turn it follows up on, and after the follow-ups between.
    """
    return next(iter(prompts_of(messages, last=1)), "")


def prompts_of(messages: Sequence[Mapping[str, object]], *, last: int) -> list[str]:
    """Returns what ``prompt_of`` was at each of the ``last`` user turns, in their order.

    What harnesses wrote into a turn is left out, and a turn of which nothing remains is none, unless that is
    so of all of them.
    """
    texts = [text for message in messages if message.get("role") == "user" and (text := _text_of(message))]
    turns = [text for text in _asked(texts) if text] or texts
    prompts: list[str] = []
    begin = 0
    for index, turn in enumerate(turns):
        if not is_follow_up(turn):
            begin = index
        if index >= len(turns) - last:
            prompts.append("\n".join(turns[begin : index + 1]))
    return prompts


def _asked(texts: Sequence[str]) -> list[str]:
    """Each without what harnesses wrote. The last come first: there is a bound on what is looked at."""
    asked: list[str] = []
    left = MOST_MARKS
    for text in reversed(texts):
        asked.append(without_harness(text, left))
        left = max(0, left - text.count("<"))
    return asked[::-1]


def is_follow_up(text: str) -> bool:
    """Whether a turn is short and leans on what was said before."""
    if len(text) > _LONGEST_WORDS:
        return False
    words = re.findall(r"[^\W_]+", text.lower())
    if len(words) > _LONGEST_FOLLOW_UP:
        return False
    spoken = " ".join(words)
    return (
        any(spoken == opening or spoken.startswith(f"{opening} ") for opening in _OPENINGS)
        or not _REFERENCES.isdisjoint(words)
        or _TOPICLESS.issuperset(words)
    )


def _text_of(message: Mapping[str, object]) -> str:
    """A content is a string or a list of parts, of which only the text ones are language."""
    content = message.get("content")
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, Sequence):
        return ""
    parts = [
        part["text"]
        for part in content
        if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
    ]
    return "\n".join(parts).strip()
