"""The configuration of the feedback loop."""

from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from experts.spec import Strict
from router.data.redaction import pattern

DAY_S = 86_400.0


class FeedbackConfig(Strict):
    """Decisions and what clients say of the answers, kept as training data (docs/guides/feedback.md)."""

    consent: bool = False
    """Must be true, or the server does not start: with it you say that your users know that their prompts
    are kept to train the router, and that you may do so. No default says that for you."""
    file: Path = Path("feedback.sqlite")
    """SQLite file where they are kept; a relative path counts from ``state``."""
    prompts: Literal["text", "hash"] = "text"
    """text keeps what the router read of a prompt, redacted. hash keeps no text, only a number by which equal
    prompts are counted; then there is nothing to train on."""
    keep_days: int = Field(default=30, ge=1)
    """Days after which they are deleted."""
    max_bytes: ByteSize = Field(default=ByteSize(256 * 2**20), ge=2**20)
    """Largest size of what the file holds, at least 1MiB. The oldest are deleted to make room."""
    sample: float = Field(default=1.0, gt=0, le=1)
    """Share of the decisions that are kept, chosen at random."""
    redact: tuple[str, ...] = ()
    """Your own regular expressions. What they match is replaced before it is kept, as are e-mail addresses,
    phone, card and account numbers, keys, tokens and IP addresses."""

    @field_validator("redact")
    @classmethod
    def _patterns_compile(cls, expressions: tuple[str, ...]) -> tuple[str, ...]:
        for expression in expressions:
            pattern(expression)
        return expressions

    @model_validator(mode="after")
    def _consent_is_said(self) -> Self:
        if not self.consent:
            raise ValueError(
                "consent: true is missing; it says that those who ask know that their prompts are kept "
                "(docs/guides/feedback.md); or leave out feedback"
            )
        return self
