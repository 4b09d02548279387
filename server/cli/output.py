"""Output that all verbs share: the terminal, replays, and reports as JSON."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from memory_tiers.replay import Replay
from server.config.settings import SettingsError


def write_json(path: Path | None, report: Mapping[str, Any]) -> None:
    if path is not None:
        try:
            path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--json {path}: {error.strerror}") from error


def show_replay(log: Path, replayed: Replay) -> int:
    """Prints whether ``log`` led to the recorded actions, and returns the exit status: 1 if it did not."""
    if replayed.different is None:
        print(f"{replayed.events} events led to the recorded actions")
        return 0
    line, recorded, done = replayed.different
    print(f"{log}, line {line}: recorded {json.dumps(recorded)}, now {json.dumps(done)}")
    return 1


def console() -> Console:
    """Returns standard output; names and messages are shown as they are."""
    made = Console(markup=False, highlight=False, emoji=False)
    if not sys.stdout.isatty():
        made.width = max(WIDTH, made.width)
    return made


WIDTH = 150
"""Width of lines that go to a file."""
