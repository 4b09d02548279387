"""``coe usage``: what each key used of each expert, out of the accounts' file."""

import argparse
from collections.abc import Sequence

from rich.table import Table

from server.access.account_store import opened
from server.access.usage import Usage, UsageQuery, UsageRow, day_of
from server.cli.arguments import Parent, add_verb
from server.cli.output import console
from server.cli.tables import table
from server.config.settings import SettingsError, load


def add_to(parent: Parent) -> None:
    made = add_verb(parent, "usage", usage, "requests and tokens by day (UTC), key and expert")
    made.add_argument("--since", metavar="DATE", help="first day, such as 2026-01-31")
    made.add_argument("--until", metavar="DATE", help="last day")
    made.add_argument("--key", metavar="NAME", help="of this key alone")
    made.add_argument("--expert", metavar="NAME", help="of this expert alone")
    made.add_argument("--json", action="store_true", help="print the rows as JSON")


def usage(options: argparse.Namespace) -> int:
    wanted = UsageQuery(
        _day(options.since, "--since"), _day(options.until, "--until"), options.key, options.expert
    )
    with opened(load(options.config).accounts.file, create=False) as store:
        rows = tuple(UsageRow.of(place, spent) for place, spent in store.usage(wanted))
    if options.json:
        print(Usage(rows=rows).model_dump_json(indent=2))
    else:
        console().print(_rows(rows))
    return 0


def _day(text: str | None, option: str) -> int | None:
    try:
        return None if text is None else day_of(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: not a date such as 2026-01-31") from error


def _rows(rows: Sequence[UsageRow]) -> Table:
    made = table("day", "key", "expert")
    made.show_footer = bool(rows)
    for title, numbers in {
        "requests": [row.requests for row in rows],
        "errors": [row.errors for row in rows],
        "prompt tokens": [row.prompt_tokens for row in rows],
        "cached": [row.cached_tokens for row in rows],
        "completion tokens": [row.completion_tokens for row in rows],
    }.items():
        made.add_column(title, justify="right", footer=f"{sum(numbers):,}")
    for row in rows:
        counts = (row.requests, row.errors, row.prompt_tokens, row.cached_tokens, row.completion_tokens)
        made.add_row(row.day.isoformat(), row.key, row.expert, *(f"{count:,}" for count in counts))
    return made
