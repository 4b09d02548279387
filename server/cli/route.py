"""``coe route``: prints the decision for a prompt, without starting an engine."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from server.cli.arguments import Parent, add_verb
from server.config.settings import Settings, SettingsError, load


def add_to(parent: Parent) -> None:
    made = add_verb(parent, "route", route, "print the decision for a prompt, without starting an engine")
    made.add_argument("prompt", help="the text a person would send; - reads standard input")
    made.add_argument(
        "--composition", help="which composition decides, such as coe or coe:31B; the first one by default"
    )
    made.add_argument("--artifact", type=Path, help="a router artifact to use instead of a configuration's")
    made.add_argument("--explain", action="store_true", help="say all that led to it")
    made.add_argument("--json", action="store_true", help="print the decision as JSON")


def route(options: argparse.Namespace) -> int:
    from router.router import Router

    if options.artifact:
        router = Router.load(options.artifact)
    else:
        router = _router_of(load(options.config), options.composition)
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if options.explain:
        return _explain(options, router, prompt)
    decision = router.decide(prompt)
    if options.json:
        print(json.dumps(asdict(decision), sort_keys=True))
        return 0
    print(f"expert      {decision.expert}")
    uncertain = " (uncertain)" if decision.uncertain else ""
    print(f"category    {decision.category}{uncertain}")
    print(f"confidence  {decision.confidence:.3f}")
    ranked = sorted(decision.probabilities.items(), key=lambda pair: -pair[1])
    for category, probability in ranked[:5]:
        print(f"  {probability:6.3f}  {category}")
    print(f"decided in  {decision.seconds * 1e3:.1f} ms")
    return 0


def _explain(options: argparse.Namespace, router: Any, prompt: str) -> int:
    from router.composition import Composition
    from server.routing.explanation import Explanation, MapSource

    choice = Composition(router).choose([{"role": "user", "content": prompt}])
    model = options.artifact or options.composition or next(iter(load(options.config).compositions))
    source = MapSource.of(router, router.experts)
    explanation = Explanation.of(str(model), choice, router.experts, {}, source)
    if options.json:
        print(explanation.model_dump_json())
    else:
        print("\n".join(explanation.lines()))
    return 0


def _router_of(settings: Settings, model: str | None) -> Any:
    """Returns the router of a composition, with its map for the budget that its name may have."""
    from router.errors import MappingError
    from router.parameters import billions
    from server.routing.catalog import compositions_of

    compositions = compositions_of(settings)
    name, _, budget = (model or next(iter(compositions), "")).partition(":")
    if name not in compositions:
        known = ", ".join(compositions) or "none"
        raise SettingsError(f"no composition {name!r}; the configuration has: {known}")
    try:
        return (compositions[name].under(billions(budget)) if budget else compositions[name]).router
    except (MappingError, ValueError) as error:
        raise SettingsError(f"--composition {model}: {error}") from error
