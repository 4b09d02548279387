import re

import pytest

from router.data.redaction import LONGEST_PROMPT, Redaction, pattern, shortened

KEY = "sk-proj-" + "abcd1234" * 4
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("write to ada.l+x@mail.example.org.", "write to <email>."),
        ("call +49 (0)30 1234-5678 now", "call <phone> now"),
        ("call +14155550123.", "call <phone>."),
        ("call 0049 30 12345678", "call <phone>"),
        ("call (415) 555-0123 or 415-555-0123", "call <phone> or <phone>"),
        ("ring 030 12345678", "ring <phone>"),
        ("my card 4111 1111 1111 1111, thanks", "my card <card>, thanks"),
        ("4111-1111-1111-1111", "<card>"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN <iban> please"),
        ("ssn 078-05-1120", "ssn <number>"),
        (f"use {KEY} as key", "use <key> as key"),
        ("ghp_" + "a1B2" * 9, "<key>"),
        ("AKIAIOSFODNN7EXAMPLE", "<key>"),
        (f"token {JWT} expired", "token <token> expired"),
        ("Authorization: Bearer abc123.def-456", "Authorization: Bearer <token>"),
        ("password=hunter2hunter2;", "password=<secret>;"),
        ('{"api_key": "abcdefghij"}', '{"api_key": "<secret>"}'),
        ("postgres://ada:s3cret@db/x", "postgres://<secret>@db/x"),
        ("from 192.168.0.17.", "from <ip>."),
        ("ping 2001:db8::ff00:42:8329", "ping <ip>"),
        ("hash d41d8cd98f00b204e9800998ecf8427e", "hash <key>"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nfix it", "<key>\nfix it"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "<key>"),
    ],
)
def test_what_has_the_form_of_a_secret_or_an_address_is_replaced(text: str, kept: str) -> None:
    assert Redaction()(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "What is 12345678 + 87654321?",
        "Add 10 - 20 - 30 - 40 and 1 2 3 4 5 6 7 8 9.",
        "The series 1, 4, 9, 16, 25, 36 and the number 1234567890123456.",
        "In 1989-1990 it cost $1,000.50 at 12:30:45.",
        "x[1::2] and std::vector<int> and a[::2]",
        "Explain Bearer bonds and basic understanding.",
        "def f(a): return a @ b.T  # matrix product",
        "The secret: be kind. A token = one word.",
        "pi is 3.14159265358979",
        "Python 3.11.7 on Linux 6.1.0",
        "getUserAccountInformationByIdentifier(userId)",
    ],
)
def test_ordinary_questions_stay_as_they_are(text: str) -> None:
    assert Redaction()(text) == text


def test_an_operators_own_patterns_come_first() -> None:
    assert Redaction([r"CASE-\d+"])("see CASE-12 and a@b.org") == "see <redacted> and <email>"


@pytest.mark.parametrize(
    ("expression", "says"), [("(", "is no regular expression"), ("x*", "matches the empty text")]
)
def test_a_wrong_pattern_says_what_is_wrong(expression: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{expression!r} {says}")):
        pattern(expression)


def test_redacting_twice_changes_nothing() -> None:
    once = Redaction()(f"{KEY} password=abcdefgh Bearer abc12345 a@b.org")
    assert Redaction()(once) == once


def test_a_cut_leaves_no_half_of_a_key_or_a_card() -> None:
    for secret in (KEY, "4111 1111 1111 1111"):
        start = "word " * ((LONGEST_PROMPT - 10) // 5)
        cut = shortened(f"{start}{secret} and more")
        assert cut == start.rstrip()
    assert shortened("short") == "short"
    assert len(shortened("字" * (LONGEST_PROMPT + 1))) == LONGEST_PROMPT
