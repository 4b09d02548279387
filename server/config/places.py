"""Makes paths of a configuration absolute: what is read counts from its file, what is written from its
state."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from server.config.installation import default_state

KEPT = (
    "store",
    "logs",
    "accounts.file",
    "feedback.file",
    "batches.folder",
    "responses.file",
    "tiers.event_log",
)
"""Settings that say where something is kept. A relative path counts from ``state``."""

Model = TypeVar("Model", bound=BaseModel)


def kept_at(settings: object, setting: str) -> Path | None:
    """Returns the path that a setting of ``KEPT`` has. None: it is unset, or its section is absent."""
    value: Any = settings
    for part in setting.split("."):
        value = None if value is None else getattr(value, part)
    assert value is None or isinstance(value, Path)
    return value


def state_of(given: Path | None, folder: Path) -> Path:
    """Returns the state folder of a configuration whose file is in ``folder``, and which names ``given``.
    Raises RuntimeError where it names none and the user has no home."""
    return default_state() if given is None else anchored(given, folder)


def anchored(path: Path, folder: Path) -> Path:
    return (folder / path.expanduser()).resolve()


def kept_in(settings: Model, state: Path) -> Model:
    """Returns ``settings`` with absolute paths of what is kept."""
    for setting in KEPT:
        path = kept_at(settings, setting)
        if path is not None:
            settings = replaced(settings, setting, anchored(path, state))
    return settings


def replaced(model: Model, setting: str, value: object) -> Model:
    """Returns ``model`` with another value of a field, or of a field's field."""
    field, _, rest = setting.partition(".")
    return model.model_copy(update={field: replaced(getattr(model, field), rest, value) if rest else value})
