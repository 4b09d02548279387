"""The configuration of what operators are shown of a gateway at work."""

from pydantic import Field

from experts.spec import Strict


class ObservationConfig(Strict):
    """Bounds of what is kept in memory for operators (docs/guides/page.md); nothing of it is written."""

    requests: int = Field(default=1000, ge=10, le=20_000)
    """Requests that have ended whose stories are kept: the latest."""
    log_lines: int = Field(default=5000, ge=100, le=100_000)
    """Lines of the gateway's log that are kept: the latest."""
    opentelemetry: bool = False
    """Whether requests and moves are sent as OpenTelemetry's spans, with GenAI metrics; where to and how
    many, its own OTEL_* variables say (docs/guides/monitoring.md). Needs the extra ``otel``."""
    prompts: bool = False
    """Whether a request's story has the beginning of what its client asked. Otherwise no text of a client is
    kept or shown."""
