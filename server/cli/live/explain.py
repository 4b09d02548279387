"""``coe explain``: the story of a request, by the ``x-request-id`` of its answer."""

import argparse
import time
from collections.abc import Iterator
from urllib.parse import quote

from pydantic import TypeAdapter
from rich.console import Group, RenderableType
from rich.table import Table

from server.cli.arguments import Parent, add_operator_verb
from server.cli.live.logs import written
from server.cli.live.state import Decision, Story, TierEvent
from server.cli.output import console
from server.cli.tables import table
from server.cli.tiers.tables import line, size
from server.cli.tiers.verbs import client_of

_STORY = TypeAdapter(Story)
BAR = 40
"""Characters of a request's whole time."""
LIKELY = 5
"""Categories that are shown: the likeliest."""


def add_to(parent: Parent) -> None:
    made = add_operator_verb(
        parent, "explain", explain, "why a request got its expert, and why it took so long"
    )
    made.add_argument("id", metavar="REQUEST_ID", help="its answer's header x-request-id")
    made.add_argument("--json", action="store_true", help="print all of it as JSON")


def explain(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        story = client.ask(f"/v1/coe/requests/{quote(options.id, safe='')}", _STORY)
    if options.json:
        print(story.model_dump_json(indent=2))
    else:
        console().print(Group(*told(story)))
    return 0


def told(story: Story) -> Iterator[RenderableType]:
    """Yields the story in the order in which it happened."""
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(story.began))
    ended = f"ended with {story.outcome}" if story.ended else story.state
    yield f"{line(story.id)}: {ended} after {story.seconds:.3f} s"
    yield f"  came {began} from {line(story.peer)} with the key {story.key or '-'} to {line(story.path)}"
    if story.error:
        yield f"  error: {line(story.error)}"
    if story.trace_id:
        yield f"  trace {story.trace_id}"
    yield from _choice(story)
    yield _phases(story)
    yield from _lease(story)
    if story.moves:
        yield _moves(story.moves)
    if story.log:
        yield "Log:"
        yield from (f"  {written(each, '')}" for each in story.log)


def _choice(story: Story) -> Iterator[str]:
    if not story.expert:
        yield f"  asked for {line(story.model) or 'no model'}; no expert was chosen"
        return
    yield f"  asked for {line(story.model)}; {story.expert} was chosen by {story.by}"
    if story.in_place_of:
        yield f"  in the place of {story.in_place_of}, which is broken"
    if story.decided is not None:
        yield from _decision(story.decided)
    yield from (f"  ruled out: {line(each.message)}" for each in story.ruled_out)


def _decision(decided: Decision) -> Iterator[str]:
    doubt = ", uncertain" if decided.uncertain else ""
    sticky = ", as the conversation before" if decided.sticky else ""
    yield (
        f"  category {decided.category} with confidence {decided.confidence:.3f}{doubt}{sticky}, decided in "
        f"{decided.seconds * 1e3:.1f} ms"
    )
    likely = sorted(decided.probabilities.items(), key=lambda each: -each[1])[:LIKELY]
    yield "  probabilities: " + ", ".join(f"{name} {share:.3f}" for name, share in likely)
    if decided.row:
        row = ", ".join(f"{each.expert} {each.score:.3f}" for each in decided.row)
        fixed = "; its expert was fixed by hand" if decided.fixed else ""
        yield f"  the map's row {decided.cluster}: {row}{fixed}"


def _phases(story: Story) -> Table:
    shown = table("phase", "from s", "seconds", "", numbers=("from s", "seconds"), wrapped="")
    for name, start, seconds in story.phases:
        taken = story.seconds - start if seconds is None else seconds
        whole = story.seconds or 1.0
        bar = " " * round(BAR * start / whole) + "█" * max(1, round(BAR * taken / whole))
        shown.add_row(name, f"{start:.3f}", f"{taken:.3f}", bar)
    return shown


def _lease(story: Story) -> Iterator[str]:
    lease = story.lease
    if lease.tier is not None:
        again = f", asked {lease.tries} times as its engine was lost" if lease.tries > 1 else ""
        yield (
            f"The expert was on {lease.tier}; the lease took {lease.queue_seconds:.3f} s, "
            f"{lease.load_seconds:.3f} s of it moves{again}."
        )
    speed = "" if story.tokens_per_s is None else f", {story.tokens_per_s:.0f} a second"
    cached = f" ({story.cached_tokens} cached)" if story.cached_tokens else ""
    yield f"Tokens: {story.tokens_in} in{cached}, {story.tokens_out} out{speed}."


def _moves(moves: tuple[TierEvent, ...]) -> Table:
    numbers = ("until s", "seconds", "size")
    shown = table("what", *numbers, "why", numbers=numbers, wrapped="why")
    for each in moves:
        what, why = f"{each.expert} {each.source} to {each.target}", each.reason
        if each.kind == "displaced":
            what = f"{each.expert} left the device"
        elif each.kind == "engine":
            what, why = f"engine {each.family} {each.state}", ""
        if each.made_room_for:
            why += f", for {each.made_room_for}"
        if each.outcome not in ("", "done"):
            why += f", {each.outcome}"
        why += f": {line(each.detail)}" if each.detail else ""
        moved = size(each.bytes) if each.bytes else ""
        shown.add_row(what, f"{each.ended:.3f}", f"{each.seconds:.3f}", moved, why)
    return shown
