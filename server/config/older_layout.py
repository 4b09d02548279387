"""Files that older versions kept elsewhere: beside the configuration, or in the root of a checkout."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experts.checkpoints.manifest import FILE as MANIFEST
from server.config.installation import STATE, checkout, shipped_configs
from server.config.places import KEPT, anchored, kept_at, state_of
from server.storage.relocation import is_ours

DATABASE = "batches.sqlite"
"""File name of the batches, in ``batches.folder``."""
_STORE = ".models"
"""Former default of ``store``."""
_OF_A_CHECKOUT = {"models": ".models", "models-lora": ".models-lora", "logs": "logs"}
"""Former paths in a checkout, in the shipped configurations, of today's ``store`` and ``logs``."""


class Written(Protocol):
    """Configuration as it is written: paths are relative still."""

    @property
    def state(self) -> Path | None: ...
    @property
    def experts(self) -> Mapping[str, object]: ...
    @property
    def families(self) -> Mapping[str, object]: ...
    @property
    def model_fields_set(self) -> set[str]: ...


@dataclass(frozen=True, slots=True)
class Left:
    """File or folder at ``old`` that belongs at ``new``, which ``setting`` names now. ``binds``: it must be
    moved before anything else is done."""

    setting: str
    old: Path
    new: Path
    binds: bool = True


def left_behind(settings: Written, folder: Path) -> Iterator[Left]:
    """Yields what is at an older place. ``settings``: as they are written, in a file in ``folder``."""
    state = state_of(settings.state, folder)
    for setting in KEPT:
        now = kept_at(settings, setting)
        if now is None:
            continue
        new = anchored(now, state)
        for old in _older_places(settings, setting, now, folder, state):
            if old != new:
                yield from _found(settings, setting, old, new)


def _older_places(settings: Written, setting: str, now: Path, folder: Path, state: Path) -> Iterator[Path]:
    unsaid = setting == "store" and "store" not in settings.model_fields_set
    yield anchored(Path(_STORE) if unsaid else now, folder)
    root = checkout()
    if root is None or (folder, state) != (shipped_configs(), root / STATE):
        return
    if str(now) in _OF_A_CHECKOUT:
        yield root / _OF_A_CHECKOUT[str(now)]


def _found(settings: Written, setting: str, old: Path, new: Path) -> Iterator[Left]:
    """Yields the file or folder if it exists and is the gateway's."""
    match setting:
        case "store":
            prepared = any((old / name / MANIFEST).is_file() for name in settings.experts)
            if prepared and not new.exists():  # else its experts are prepared at the new place
                yield Left(setting, old, new)
        case "logs":
            for family in settings.families:
                log = old / f"{family}.log"
                if log.is_file():
                    yield Left(setting, log, new / log.name, binds=False)
        case "tiers.event_log":
            if old.is_file():
                yield Left(setting, old, new, binds=False)
        case "batches.folder":
            if is_ours(old / DATABASE):
                yield Left(setting, old, new)
        case _:
            if is_ours(old):
                yield Left(setting, old, new)
