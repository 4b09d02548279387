"""``coe feedback``: export what was kept as training data, count it, forget it."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from rich.table import Table

from server.access.owner import owner_named
from server.cli.arguments import Parent, add_verb
from server.cli.feedback import trial
from server.cli.output import console
from server.cli.tables import table
from server.config.feedback import DAY_S
from server.config.settings import SettingsError, load
from server.feedback.export import ExportCounts, counts_of, example_of
from server.feedback.store import FeedbackStore
from server.storage.errors import NotKept


def add_to(parent: Parent) -> None:
    feedback = parent.add_parser("feedback", help="what was kept of decisions and clients' feedback")
    verbs = feedback.add_subparsers(required=True, metavar="VERB")
    exported = add_verb(verbs, "export", export, "write what was kept as training data")
    exported.add_argument("--out", type=Path, required=True, help="JSON lines for coe router train (.gz too)")
    exported.add_argument("--since", type=float, metavar="DAYS", help="leave out what is older")
    trial.add_to(verbs)
    counted = add_verb(verbs, "stats", stats, "count what was kept")
    forgotten = add_verb(verbs, "forget", forget, "delete what was kept, for good")
    which = forgotten.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", help="of one request, as its answer's x-request-id said")
    which.add_argument("--key", metavar="NAME", help="of all requests that came with an API key of this name")
    which.add_argument(
        "--before", metavar="DATE", help="all of before a date, such as 2026-01-31, or a time of it"
    )
    which.add_argument("--all", action="store_true", help="all of it")
    for made in (exported, counted, forgotten):
        made.add_argument("--file", type=Path, help="feedback file; the configuration's by default")


def export(options: argparse.Namespace) -> int:
    from router.data.example_file import write_examples

    since = 0.0 if options.since is None else time.time() - options.since * DAY_S
    with _opened(options) as store:
        kept = list(store.kept(since))
    examples = [example for each in kept if (example := example_of(each)) is not None]
    if not examples:
        without = f", {len(kept):,} decisions without a text" if kept else ""
        raise NotKept(f"nothing to export: no prompt is in {store.file}{without}")
    write_examples(options.out, examples)
    labelled = sum(example.category is not None for example in examples)
    scored = sum(bool(example.scores) for example in examples)
    print(
        f"{options.out}: {len(examples):,} prompts, {labelled:,} with a category, {scored:,} with a score; "
        f"{len(kept) - len(examples):,} decisions have no text"
    )
    return 0


def stats(options: argparse.Namespace) -> int:
    with _opened(options) as store:
        counts, used = counts_of(store.kept()), store.used_bytes()
    print(f"{store.file}: {counts.decisions:,} decisions, {used:,} bytes")
    if counts.first is not None and counts.last is not None:
        print(f"from {_time(counts.first)} to {_time(counts.last)}")
        print(f"{counts.different:,} different prompts; the text of {counts.texts:,} is kept")
        print("outcomes: " + ", ".join(f"{outcome} {count:,}" for outcome, count in counts.outcomes))
        console().print(_rows(counts))
    return 0


def forget(options: argparse.Namespace) -> int:
    with _opened(options) as store:
        if options.id is not None:
            count = store.forget_request(options.id)
        elif options.key is not None:
            count = store.forget_client(store.client_of(owner_named(options.key)))
        elif options.before is not None:
            count = store.forget_before(_seconds(options.before))
        else:
            count = store.forget_all()
    if options.id is not None and not count:
        raise NotKept(f"no request {options.id!r} is in {store.file}")
    if options.key is not None and not count:
        raise NotKept(f"nothing of API key {options.key!r} is in {store.file}")
    print(f"{store.file}: {count:,} forgotten")
    return 0


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[FeedbackStore]:
    """Opens the file of ``--file``, else of the configuration, whose limits then trim it."""
    config = None if options.file else load(options.config).feedback
    file = config.file if config else options.file
    if file is None:
        raise SettingsError(f"{options.config} has no feedback; name the file with --file")
    store = FeedbackStore.open(file, create=False)
    try:
        if config is not None:
            store.trim(time.time() - config.keep_days * DAY_S, config.max_bytes)
        yield store
    finally:
        store.close()


def _seconds(date: str) -> float:
    try:
        return datetime.fromisoformat(date).timestamp()
    except ValueError as error:
        raise SettingsError(f"--before {date}: not a date such as 2026-01-31") from error


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")  # noqa: DTZ006  # local time, for people


def _rows(counts: ExportCounts) -> Table:
    counted = ("decisions", "uncertain", "scored", "mean score", "corrected")
    made = table("category", "expert", *counted, numbers=counted)
    for row in counts.rows:
        score = "-" if row.score is None else f"{row.score:.2f}"
        numbers = (row.decisions, row.uncertain, row.scored)
        made.add_row(row.category, row.expert, *(f"{n:,}" for n in numbers), score, f"{row.corrected:,}")
    return made
