"""Progress bars of long verbs, on standard error; plain lines where that is not a terminal."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Bars:
    """One bar for each thing in work. ``of(name)`` is the callback a package reports to."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def of(self, name: str) -> Callable[[str, int, int], None]:
        """A callback ``(stage, done, total)`` for the thing called ``name``."""
        bar: TaskID = self._progress.add_task(name, total=None)
        stages: list[str] = []

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages.append(stage)
                if self._progress.disable:
                    self._console.print(f"{name}: {stage}")
            self._progress.update(bar, description=f"{name}: {stage}", completed=done, total=total)

        return report
