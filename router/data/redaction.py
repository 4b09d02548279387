"""Replaces the personal data and secrets of a text before it is kept, as far as patterns can tell.

They find what has a form: addresses, numbers, keys. They find no name, no street and no story
(docs/guides/feedback.md). The time they take grows with the text's length and no faster.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

LONGEST_PROMPT = 8_000
"""Characters of a prompt that are kept. No embedder of ours reads as many."""


@dataclass(frozen=True, slots=True)
class _Form:
    """A form to replace: text that matches and ``is_one`` becomes ``<name>``, after the group ``keep`` if the
    pattern has one."""

    name: str
    pattern: re.Pattern[str]
    is_one: Callable[[str], bool] = lambda found: True


def _digits(found: str) -> list[int]:
    return [int(character) for character in found if character.isdecimal()]


def _is_card(found: str) -> bool:
    """Luhn's check digit (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(_digits(found))):
        total += sum(divmod(2 * digit, 10)) if place % 2 else digit
    return total % 10 == 0 and total > 0


def _is_iban(found: str) -> bool:
    """ISO 13616's check digits."""
    plain = found.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _is_ipv6(found: str) -> bool:
    """Two groups alone are a slice of Python (``1::2``) as well."""
    try:
        ipaddress.IPv6Address(found)
    except ValueError:
        return False
    return sum(bool(group) for group in found.split(":")) > 2


def _is_phone(found: str) -> bool:
    return 8 <= len(_digits(found)) <= 15  # at most: ITU-T E.164


_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_FORMS = (
    _Form(
        "key",
        re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)", re.DOTALL),
    ),
    _Form("secret", re.compile(r"(?P<keep>://)[^\s/@:]{1,128}:[^\s/@]{1,128}(?=@)")),
    _Form("token", re.compile(r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?")),
    _Form(
        "key",
        re.compile(
            r"\b(?:(?:sk|pk|rk)[-_][\w-]{8,}|xox[a-z]-[\w-]{8,}|gh[a-z]_\w{16,}|github_pat_\w{16,}"
            r"|glpat-[\w-]{16,}|hf_\w{16,}|npm_\w{16,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,})"
        ),
    ),
    _Form(
        "token",
        re.compile(r"\b(?P<keep>Bearer\s{1,9})(?=[A-Za-z._~+/=-]{0,99}\d)[\w.~+/=-]{8,}", re.IGNORECASE),
    ),
    _Form(
        "secret",
        re.compile(
            r"\b(?P<keep>(?:password|passwd|pwd|secret|api[_-]?key|(?:access|auth)[_-]?token)[\"']?\s{0,9}[:=]"
            r"\s{0,9}[\"']?)(?!<)[^\s\"',;]{6,}",
            re.IGNORECASE,
        ),
    ),
    _Form("email", re.compile(r"[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,63}")),
    _Form(
        "ip",
        re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,39}(?:(?<=:)(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])"),
        _is_ipv6,
    ),
    _Form("ip", re.compile(rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w]|\.\d)")),
    _Form("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _is_iban),
    _Form("card", re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)"), _is_card),
    _Form("number", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")),
    _Form("phone", re.compile(r"(?<![\w+])(?:\+|00)\d{1,3}(?:[ ./-]?\(?\d{1,5}\)?){2,7}(?!\w)"), _is_phone),
    _Form("phone", re.compile(r"(?<![\w(-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])")),
    _Form(
        "phone", re.compile(r"(?<![\w.,-])0\d{2,4}[ /-]\d{2,8}(?:[ -]\d{2,5}){0,3}(?![\w.,-]\d)"), _is_phone
    ),
    _Form("key", re.compile(r"\b[0-9A-Fa-f]{32,}\b")),
    _Form(
        "key",
        re.compile(
            r"(?<![\w+-])(?=[\w+-]{40})(?=[A-Z\d_+-]{0,99}[a-z])(?=[a-z\d_+-]{0,99}[A-Z])(?=[A-Za-z_+-]{0,99}\d)[\w+-]+"
        ),
    ),
)


def pattern(expression: str) -> re.Pattern[str]:
    """An operator's own regular expression. Raises ValueError saying what is wrong with it."""
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise ValueError(f"{expression!r} is no regular expression: {error}") from error
    if compiled.search("") is not None:
        raise ValueError(f"{expression!r} matches the empty text: it would be found everywhere")
    return compiled


class Redaction:
    """The built-in forms, and before them an operator's own patterns, whose matches become ``<redacted>``."""

    def __init__(self, own: Iterable[str] = ()) -> None:
        """Raises ValueError as ``pattern`` does."""
        self._forms = (*(_Form("redacted", pattern(expression)) for expression in own), *_FORMS)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            text = form.pattern.sub(partial(_replaced, form), text)
        return text

    def __repr__(self) -> str:
        return f"<Redaction of {len(self._forms)} forms>"


def _replaced(form: _Form, match: re.Match[str]) -> str:
    if not form.is_one(match[0]):
        return match[0]
    return f"{match.groupdict().get('keep') or ''}<{form.name}>"


def shortened(prompt: str) -> str:
    """At most ``LONGEST_PROMPT`` characters. Cut before a word or a number, so that no half of a key or a
    card is left, which no pattern would know."""
    if len(prompt) <= LONGEST_PROMPT:
        return prompt
    cut = prompt[:LONGEST_PROMPT]
    words = cut.rsplit(None, 1)
    return words[0].rstrip(" \t0123456789+-().,/") if len(words) == 2 else cut
