"""The benchmarks of a source checkout, which the wheel does not have."""

import importlib
from typing import Any

from server.config.settings import SettingsError


def benchmark(name: str) -> Any:
    """Imports ``benchmarks.name``. Raises SettingsError outside a source checkout."""
    try:
        return importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        raise SettingsError("benchmarks are not installed; run this from a source checkout") from error
