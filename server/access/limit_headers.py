"""Writes what is left of a key's limits into an answer's headers: in OpenAI's words, and in Anthropic's."""

import math
from datetime import UTC, datetime

from server.access.rate_limits import Remaining


def openai(remaining: Remaining) -> dict[str, str]:
    """Makes the headers of the limits that there are."""
    headers = {}
    for what, left in remaining.of.items():
        headers[f"x-ratelimit-limit-{what}"] = str(left.limit)
        headers[f"x-ratelimit-remaining-{what}"] = str(left.remaining)
        headers[f"x-ratelimit-reset-{what}"] = duration(left.reset_s)
    return headers


def anthropic(remaining: Remaining) -> dict[str, str]:
    """Makes the headers of the limits that there are."""
    headers = {}
    for what, left in remaining.of.items():
        name = f"anthropic-ratelimit-{what}"
        headers[f"{name}-limit"] = str(left.limit)
        headers[f"{name}-remaining"] = str(left.remaining)
        headers[f"{name}-reset"] = _moment(remaining.at.utc + left.reset_s)
    return headers


def duration(seconds: float) -> str:
    """Writes seconds as OpenAI does: 120ms, 1.5s, 6m0s, 8h5m12s."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    if not minutes:
        return f"{rest / 1000:g}s"
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}h' if hours else ''}{minutes}m{rest // 1000}s"


def _moment(utc: float) -> str:
    """Writes a time of RFC 3339 in whole seconds, never too early: 2026-01-31T12:00:00Z."""
    return datetime.fromtimestamp(math.ceil(utc), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
