"""Sizes of experts, budgets and names, as the options of ``coe router`` take them."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from router.parameters import billions
from server.config.settings import SettingsError


def sizes(option: str, text: str) -> dict[str, float]:
    """``name=7.62B,...``, or a YAML file of ``name: 7.62B`` lines, to billions. Raises SettingsError."""
    if "=" not in text and Path(text).exists():
        written = list(pairs_in(Path(text)).items())
    else:
        parts = (each.rpartition("=") for each in text.split(","))
        written = [(name.strip(), size.strip()) for name, _, size in parts]
    found: dict[str, float] = {}
    for name, size in written:
        if not name or name in found:
            raise SettingsError(
                f"{option} {name or size!r}: write each once as NAME=SIZE, such as small=7.62B, or a file"
            )
        found[name] = parameters(option, size)
    return found


def parameters(option: str, size: str) -> float:
    """Billions. Raises SettingsError."""
    try:
        return billions(size)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from error


def pairs_in(path: Path) -> dict[str, str]:
    """Reads a YAML file of ``name: value`` lines. Raises SettingsError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, Mapping) or not all(isinstance(v, str) for pair in tree.items() for v in pair):
        raise SettingsError(f"{path}: expected lines of 'name: value'")
    return dict(tree)
