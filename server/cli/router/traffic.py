"""``coe router import-traffic``: what people ask already, out of logs and exports, as training data."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.arguments import Parent, add_verb
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from router.data.traffic_import import Imported


def add_to(router: Parent) -> None:
    made = add_verb(
        router,
        "import-traffic",
        import_traffic,
        "prompts out of logs and exports of own traffic",
        config=False,
    )
    made.add_argument(
        "logs",
        type=Path,
        nargs="+",
        metavar="LOG",
        help="JSON (lines) or plain text, .gz too; -: standard input",
    )
    made.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="JSON lines for coe router train (.gz too)"
    )
    category = made.add_mutually_exclusive_group()
    category.add_argument("--category", metavar="NAME", help="of every prompt")
    category.add_argument(
        "--category-field", metavar="FIELD", help="where a record has its own, such as metadata.topic"
    )
    made.add_argument(
        "--redact", action="append", default=[], metavar="REGEX", help="replace what matches too; repeatable"
    )
    made.add_argument("--limit", type=int, metavar="COUNT", help="at most so many prompts")
    made.add_argument("--strict", action="store_true", help="write nothing if any line cannot be read")


def import_traffic(options: argparse.Namespace) -> int:
    from router.data.example_file import write_examples
    from router.data.redaction import Redaction
    from router.data.traffic_import import TrafficImport

    if options.limit is not None and options.limit < 1:
        raise SettingsError(f"--limit {options.limit}: at least 1")
    try:
        redaction = Redaction(options.redact)
    except ValueError as error:
        raise SettingsError(f"--redact: {error}") from error
    traffic = TrafficImport(
        redaction, category=options.category, category_field=options.category_field, limit=options.limit
    )
    for log in options.logs:
        traffic.read(log)
    found = traffic.imported
    unreadable = _unreadable(found)
    if options.strict and unreadable:
        raise SettingsError(f"nothing is written: {unreadable}")
    if not found.examples:
        raise SettingsError(
            f"no prompt in {', '.join(map(str, options.logs))}; {unreadable or 'nobody says anything'}"
        )
    write_examples(options.out, found.examples)
    if unreadable:
        print(f"coe: {unreadable}", file=sys.stderr)
    print(f"{options.out}: {_summary(found)}")
    return 0


def _summary(found: "Imported") -> str:
    labelled = sum(example.category is not None for example in found.examples)
    left_out = {
        "duplicates": found.duplicates,
        "near twins": found.twins,
        "without a person's text": found.speechless,
    }
    said = [f"{count:,} {what}" for what, count in left_out.items() if count]
    return (
        f"{len(found.examples):,} prompts, {labelled:,} with a category"
        f"{'; left out: ' + ', '.join(said) if said else ''}"
    )


def _unreadable(found: "Imported") -> str:
    if not found.unreadable:
        return ""
    more = found.unreadable - len(found.first_unreadable)
    places = "; ".join(map(str, found.first_unreadable))
    return f"{found.unreadable:,} cannot be read: {places}{f'; and {more:,} more' if more else ''}"
