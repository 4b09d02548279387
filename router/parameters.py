"""Numbers of parameters as people write them: ``31B``, ``7.62B``, ``135M``."""

import re
from typing import Annotated

from pydantic import BeforeValidator

_WRITTEN = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([BM])", re.IGNORECASE)


def billions(text: object) -> float:
    """How many billions. Raises ValueError for what is no such number, or none at all."""
    written = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
    number = float(written[1]) if written is not None else 0.0
    if written is None or number == 0:
        raise ValueError(f"{text!r} is not a number of parameters such as 31B, 7.62B or 135M")
    return number if written[2] in "Bb" else number / 1000


Billions = Annotated[float, BeforeValidator(billions)]
"""A setting that is written as text with its unit."""
