"""Examines a configuration as `coe serve` would: the file, its ports, checkpoints, routers and plan."""

from collections.abc import Callable, Iterator
from pathlib import Path

from experts.checkpoints.prepared import check_families, open_expert
from experts.checkpoints.sources.folder import nearest
from experts.errors import CheckpointError, CheckpointMissing, ExpertsError
from memory_tiers.errors import TiersError
from router.errors import RouterError
from server.config.settings import Settings, SettingsError, load
from server.doctor.finding import Finding, error, ok, warning
from server.planning.planned import planned
from server.routing.catalog import load_routers


def read(file: Path) -> Settings | Finding:
    """Reads the configuration; a finding where it cannot be used."""
    try:
        return load(file)
    except SettingsError as problem:
        return error("configuration", str(problem), "correct the file; configs/example.yaml has every field")


def port(
    setting: str, host: str, number: int, bind: Callable[[str, int], None], serves: Callable[[], bool]
) -> Finding:
    """``bind`` takes the port for a moment, or raises OSError; ``serves`` asks whether a gateway is there.
    ``setting``: where another is given."""
    shown = f"{host}:{number}"
    try:
        bind(host, number)
    except OSError as problem:
        if serves():
            return ok("port", f"a gateway listens on {shown}")
        do = f"stop what has it, or choose another: {setting}"
        return error("port", f"{shown}: {problem.strerror or problem}", do)
    return ok("port", f"{shown} is free")


def checkpoints(settings: Settings) -> Iterator[Finding]:
    """Opens every expert, small files only."""
    missing, opened = [], []
    for name, expert in settings.experts.items():
        base, task = settings.base_of(name), settings.task_of(name)
        try:
            opened.append(open_expert(name, expert, settings.store, base, task))
        except CheckpointMissing:
            gone = _gone(expert.checkpoint.folder)
            if gone is None:
                missing.append(name)
            else:
                yield error("checkpoints", f"experts.{name}.checkpoint.folder: {gone}", "correct it")
        except CheckpointError as problem:
            yield error("checkpoints", f"{name}: {problem}", "coe experts prepare; coe experts verify")
    if missing:
        said = f"not prepared: {', '.join(missing)}"
        yield warning("checkpoints", said, "coe experts prepare, or coe serve --prepare")
    try:
        check_families(opened)
    except CheckpointError as problem:
        yield error("checkpoints", str(problem), "give it a family of its own")
    if opened:
        yield ok("checkpoints", f"{len(opened)} of {len(settings.experts)} are prepared")


def _gone(folder: Path | None) -> str | None:
    """Says that a folder to prepare from is not there."""
    if folder is None or folder.is_dir():
        return None
    return f"{folder}: no such folder{nearest(folder)}"


def routers(settings: Settings) -> Finding:
    try:
        found = load_routers(settings)
    except (RouterError, SettingsError) as problem:
        return error("compositions", str(problem), "correct compositions in the configuration")
    said = ", ".join(f"{name} of {len(router.experts)} experts" for name, router in found.items())
    return ok("compositions", said or "none")


def plan(settings: Settings) -> Finding:
    try:
        planned(settings)
    except (ExpertsError, TiersError) as problem:
        return error("plan", str(problem), "coe plan shows all of it")
    return ok("plan", "every family has its sizes")
