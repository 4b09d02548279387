"""Finds a machine profile by its name or its file."""

import os
from pathlib import Path

import yaml
from pydantic import ValidationError

from memory_tiers.errors import SimulationImpossible
from memory_tiers.simulator.profiles import BUILT_IN, THIS_MACHINE, Profile
from memory_tiers.simulator.this_machine import measured


def profile_of(name: str) -> Profile:
    """Finds a built-in profile, measures this machine's, or reads one from a YAML or JSON file. Raises
    SimulationImpossible."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name == THIS_MACHINE:
        return measured()
    return _read(Path(name))


def _read(path: Path) -> Profile:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        valid = ", ".join([*BUILT_IN, THIS_MACHINE])
        raise SimulationImpossible(f"profile {path}: {error.strerror}; built in are {valid}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SimulationImpossible(f"profile {path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return Profile.model_validate({"name": os.fspath(path)} | tree if isinstance(tree, dict) else tree)
    except ValidationError as error:
        # a misspelt field is also a missing one; the misspelling is what to report
        problem = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in problem["loc"])
        raise SimulationImpossible(f"profile {path}: {where}: {problem['msg']}") from error
