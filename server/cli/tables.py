"""Tables in a terminal, alike for all verbs."""

from collections.abc import Collection

from rich.box import SIMPLE_HEAD
from rich.table import Table


def table(
    *columns: str, numbers: Collection[str] = (), title: str | None = None, wrapped: str | None = None
) -> Table:
    """Makes a table without rows. Columns in ``numbers`` are aligned to the right. Where the terminal is
    narrow the column ``wrapped`` alone gives way; None: all do."""
    made = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=wrapped is not None and column != wrapped,
        )
    return made
