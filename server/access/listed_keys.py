"""API keys as operators see them: names, limits, and the beginnings of secrets that were made."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from server.access.account_store import MadeKey
from server.config.api_keys import Key

LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "tokens_per_day")


def listed(configured: Iterable[Key], made: Iterable[MadeKey]) -> list[dict[str, Any]]:
    """Lists the keys of the configuration, then those that were made, revoked ones too."""
    return [_row(key, "configuration") for key in configured] + [_made_row(each) for each in made]


def written(seconds: float | None) -> str | None:
    """Writes a time of seconds since 1970."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds").removesuffix("+00:00") + "Z"


def _row(key: Key, where: str) -> dict[str, Any]:
    limits = {limit: getattr(key.limits, limit) for limit in LIMITS}
    models = None if key.models is None else sorted(key.models)
    return {"name": key.name, "in": where, "models": models, "priority": key.priority} | limits


def _made_row(made: MadeKey) -> dict[str, Any]:
    secrets = [
        {"begins": secret.shown, "created": written(secret.created), "expires": written(secret.expires)}
        for secret in made.secrets
    ]
    times = {"created": written(made.created), "revoked": written(made.revoked), "secrets": secrets}
    return _row(made.key, "accounts") | times
