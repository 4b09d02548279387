"""``coe feedback trial``: a canary's map beside the one that serves, by clients' feedback."""

import argparse
import time
from typing import TYPE_CHECKING

from server.cli.arguments import Parent, add_verb
from server.config.feedback import DAY_S
from server.config.settings import Settings, SettingsError, load
from server.feedback.store import FeedbackStore
from server.feedback.trial import Arm, shadow_of, trial_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MOVES = 10
"""Pairs of experts that are shown, those with the most decisions."""


def add_to(verbs: Parent) -> None:
    made = add_verb(verbs, "trial", compare, "a canary's map beside the one that serves, by feedback")
    made.add_argument("--composition", metavar="NAME", help="whose canary; the first that has one by default")
    made.add_argument("--since", type=float, metavar="DAYS", help="leave out what is older than the trial")
    made.add_argument(
        "--least", type=int, default=200, metavar="N", help="scores that each map needs; 200 by default"
    )
    made.add_argument(
        "--margin", type=float, default=1.0, metavar="POINTS", help="it may be worse by; 1 by default"
    )
    made.add_argument(
        "--apply",
        action="store_true",
        help="where the rule promotes the canary, write it over the artifact that serves",
    )


def compare(options: argparse.Namespace) -> int:
    settings = load(options.config)
    name = _composition(settings, options.composition)
    if settings.feedback is None or settings.feedback.file is None:
        raise SettingsError(f"{options.config} keeps no feedback in a file: set feedback.file")
    serving, tried = _maps(settings, name)
    since = 0.0 if options.since is None else time.time() - options.since * DAY_S
    store = FeedbackStore.open(settings.feedback.file, create=False)
    try:
        kept = list(store.kept(since))
    finally:
        store.close()
    trial = trial_of(kept, name, serving, tried)
    shadow = shadow_of(kept, name, serving, tried)
    changed = sum(serving[row] != tried[row] for row in serving)
    print(f"composition  {name}: the maps differ at {changed} of {len(serving)} rows")
    print(f"shadow       it would change {shadow.share:.1%} of {shadow.decisions:,} decisions")
    for (before, after), count in [*shadow.moves.items()][:MOVES]:
        print(f"             {before} -> {after}: {count:,}")
    print(f"canary       {_said(trial.canary)}\nincumbent    {_said(trial.incumbent)}")
    if trial.difference is not None:
        value, low, high = trial.difference
        print(f"difference   {value:+.1f} [{low:+.1f}, {high:+.1f}] points")
    verdict = trial.verdict(options.least, options.margin)
    print(f"verdict      {verdict}")
    if verdict == "promote" and options.apply:
        _promote(settings, name)
    elif verdict == "take back":
        print(f"take compositions.{name}.canary out of {options.config}, and coe reload")
    return 0


def _composition(settings: Settings, name: str | None) -> str:
    with_one = [key for key, each in settings.compositions.items() if each.canary is not None]
    if name is not None and name not in settings.compositions:
        raise SettingsError(f"no composition {name!r}; there are {', '.join(settings.compositions)}")
    if not with_one or (name is not None and name not in with_one):
        raise SettingsError(f"compositions.{name or 'NAME'}.canary: no map is tried")
    return name or with_one[0]


def _maps(settings: Settings, name: str) -> "tuple[Mapping[str, str], Mapping[str, str]]":
    """Row to expert, of the map that serves and of the one that is tried."""
    from server.routing.catalog import canaries_of, load_routers

    routers = load_routers(settings)
    serving, tried = routers[name].artifact, canaries_of(settings, routers)[name].mapping
    rows = serving.mapping.experts if serving.scores is None else serving.scores.categories
    return {row: serving.mapping[row] for row in rows}, {row: tried[row] for row in rows}


def _promote(settings: Settings, name: str) -> None:
    """Writes the canary's artifact over the one that serves, and leaves its own."""
    from router.artifacts.artifact import Artifact
    from router.settings import SHIPPED

    composition = settings.compositions[name]
    assert composition.canary is not None
    if composition.artifact in SHIPPED.values():
        raise SettingsError(
            f"compositions.{name}.artifact ships, and is not written over: name {composition.canary.artifact}"
        )
    Artifact.read(composition.canary.artifact).write(composition.artifact)
    print(f"wrote {composition.artifact}: coe reload takes it into use")


def _said(arm: Arm) -> str:
    mean = "no score" if arm.mean is None else f"mean score {100 * arm.mean:.1f} of {arm.scored:,}"
    return f"{arm.decisions:,} decisions, {mean}"
