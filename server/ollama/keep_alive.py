"""How long an expert stays on the device after a request: Ollama's ``keep_alive``."""

import math
import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_WHOLE = re.compile(rf"-?({_PART.pattern})+")


def seconds_of(given: object) -> float | None:
    """Returns the seconds of a number of them, or of a duration such as ``5m`` or ``1h30m``; infinite for a
    negative one, None for None. Raises ValueError."""
    match given:
        case None:
            return None
        case bool():
            raise ValueError("write seconds, or a duration such as '5m'")
        case int() | float():
            seconds = float(given)
        case str():
            seconds = _duration(given)
        case _:
            raise ValueError("write seconds, or a duration such as '5m'")
    if math.isnan(seconds):
        raise ValueError("it is not a number")
    return math.inf if seconds < 0 else seconds


def _duration(text: str) -> float:
    """Reads a duration as Go writes it, or a number. Raises ValueError."""
    if len(text) > 100:
        raise ValueError("it is too long for a duration")
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; write seconds, or one such as '5m' or '1h30m'")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return -seconds if text.startswith("-") else seconds
