"""The values that options take, and how a verb is added to the command."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from memory_tiers.simulator.comparison import RIVALS
from memory_tiers.tiers import size_of
from server.config.installation import shipped_configs
from server.config.settings import SettingsError

Parent: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Takes verbs: what ``add_subparsers`` gives."""
DEFAULT_CONFIG = shipped_configs() / "embedded.yaml"


def positive(text: str) -> int:
    """Reads a whole number from 1; anything else is argparse's usage error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def count(text: str) -> int:
    """Reads a whole number from 1. Raises SettingsError."""
    return round(_parsed(text, r"[1-9]\d*", "a whole number from 1"))


def number(text: str) -> float:
    """Reads a number over 0. Raises SettingsError."""
    return _parsed(text, r"\d*[1-9]\d*(\.\d+)?|\d*\.\d*[1-9]\d*", "a number over 0")


def _parsed(text: str, pattern: str, expected: str) -> float:
    """Reads what matches ``pattern``. Raises SettingsError."""
    if not re.fullmatch(pattern, text):
        raise SettingsError(f"{text!r} is not {expected}")
    return float(text)


def size(text: str) -> int:
    """Reads bytes, such as 13.5GB. Raises SettingsError."""
    try:
        size = size_of(text)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if size < 1:
        raise SettingsError(f"{text!r} is no memory at all")
    return size


def rival(text: str) -> str:
    """Checks the name of a policy of the simulator, or of a rival of them."""
    if text not in RIVALS:
        raise SettingsError(f"policy {text!r} is unknown; there are {', '.join(RIVALS)}")
    return text


def add_operator_verb(
    parent: Parent,
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
) -> argparse.ArgumentParser:
    """Adds a verb that asks a running gateway, with the key in COE_ADMIN_KEY or the configuration's."""
    made = add_verb(parent, name, run, help_text)
    made.add_argument("--url", help="of the gateway; COE_URL, or where the configuration says it listens")
    return made


def add_verb(
    parent: Parent,
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
    *,
    config: bool = True,
) -> argparse.ArgumentParser:
    """Adds a verb that calls ``run``; with ``config`` it takes ``--config``."""
    made: argparse.ArgumentParser = parent.add_parser(name, help=help_text, description=help_text)
    made.set_defaults(run=run)
    if config:
        default = Path(os.environ.get("COE_CONFIG", DEFAULT_CONFIG))
        made.add_argument(
            "--config", type=Path, default=default, help="configuration file; COE_CONFIG or the embedded one"
        )
    return made
