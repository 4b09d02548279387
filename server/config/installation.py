"""Finds what this program is, a checkout or an installed package, what ships with it, and its state
folder."""

import os
from collections.abc import Mapping
from pathlib import Path

_SERVER = Path(__file__).resolve().parents[1]
_ROOT = _SERVER.parent
STATE = ".state"
"""The state folder of a checkout."""


def checkout() -> Path | None:
    """Returns the root of the checkout that this program runs from; None: it is installed."""
    return _ROOT if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "configs").is_dir() else None


def shipped_configs() -> Path:
    """Returns the folder of the configurations that ship. In a wheel they are a part of the package."""
    root = checkout()
    return _SERVER / "configs" if root is None else root / "configs"


def default_state(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the state folder of a configuration that names none: ``COE_STATE``, else ``.state`` of a
    checkout, else the user's own. Raises RuntimeError where the user has no home."""
    if given := environment.get("COE_STATE"):
        return Path(given).expanduser().absolute()
    root = checkout()
    if root is not None:
        return root / STATE
    home = Path(environment.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / "coe"
