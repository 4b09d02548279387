"""What every verb prints and writes alike."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.config.settings import SettingsError


def write_json(path: Path | None, report: Mapping[str, Any]) -> None:
    if path is not None:
        try:
            path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--json {path}: {error.strerror}") from error
