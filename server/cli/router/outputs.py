"""Checks that a result can be written, before the work for it."""

import os
from pathlib import Path

from server.config.settings import SettingsError


def check_folder(option: str, folder: Path) -> None:
    """Raises SettingsError where an artifact cannot be written to ``folder``, which need not be there."""
    above = folder.absolute()
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise SettingsError(f"{option} {folder} cannot be written: {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise SettingsError(f"{option} {folder} cannot be written: no leave to write in {above}")


def check_file(option: str, file: Path | None) -> None:
    """Raises SettingsError where ``file``, if any, cannot be written."""
    if file is None:
        return
    folder = file.absolute().parent
    if not folder.is_dir():
        raise SettingsError(f"{option} {file} cannot be written: there is no folder {folder}")
    if file.is_dir():
        raise SettingsError(f"{option} {file} cannot be written: it is a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"{option} {file} cannot be written: no leave to write in {folder}")
