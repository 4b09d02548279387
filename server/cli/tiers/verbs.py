"""Verbs that ask a running gateway: look, watch, give orders, reload."""

import argparse
import os
import time
from collections.abc import Callable
from typing import get_args

from pydantic import SecretStr
from rich.live import Live

from memory_tiers.tiers import Tier
from server.cli.arguments import Parent, add_operator_verb, number
from server.cli.operator_client import OperatorClient
from server.cli.output import console
from server.cli.progress import Bars
from server.cli.tiers.order_outcome import Order, OrderOutcome, outcome, stage
from server.cli.tiers.tables import line, tables
from server.config.settings import ServerConfig, SettingsError, load
from server.operator_api import OperatorError, Verb

PAUSES_S = (0.05, 1.0)
"""Seconds between two looks at an order under way: at first, and at most."""


def add_to(tiers: Parent) -> None:
    shown = add_operator_verb(tiers, "status", status, "where a gateway's experts are now")
    shown.add_argument("--json", action="store_true", help="print all of it as JSON")
    watched = add_operator_verb(tiers, "watch", watch, "the same, again and again until Ctrl-C")
    watched.add_argument("--interval", type=number, default=1.0, metavar="SECONDS", help="between updates")

    _order(tiers, "load", load_expert, "bring an expert to the device")
    demoted = _order(tiers, "demote", demote, "take an expert down once nobody uses it")
    demoted.add_argument("--to", choices=("host", "disk"), default="host", help="how far; host by default")
    moved = _order(tiers, "move", move, "bring an expert, or take it down, to a tier")
    moved.add_argument("tier", choices=get_args(Tier), metavar="TIER", help=", ".join(get_args(Tier)))
    _order(tiers, "pin", pin, "bring an expert to the device for good")
    _order(tiers, "unpin", unpin, "let an expert make room for others again")
    _order(tiers, "cancel", cancel, "end an expert's load; whoever waits for it is rejected")


def add_reload_to(parent: Parent) -> None:
    add_operator_verb(parent, "reload", reload, "make a running gateway read its configuration again")


def client_of(options: argparse.Namespace) -> OperatorClient:
    """Returns the client for the gateway at ``--url``, else COE_URL, else where ``--config`` says that it
    listens; with the key of COE_ADMIN_KEY, else of the configuration. Raises SettingsError."""
    url = options.url or os.environ.get("COE_URL")
    key = os.environ.get("COE_ADMIN_KEY")
    if url and key:
        return OperatorClient(url, SecretStr(key))
    configured = load(options.config).server
    return OperatorClient(url or _address(configured), SecretStr(key) if key else configured.admin_key)


def _address(configured: ServerConfig) -> str:
    own = configured.admin_port is not None
    port = configured.admin_port if own else configured.port
    if port == 0:
        name = "admin_port" if own else "port"
        raise SettingsError(f"server.{name} is 0, any free one: give --url, which coe serve printed")
    given = configured.admin_host if own else configured.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(given, given)  # noqa: S104  # compared, not bound
    scheme = "http" if configured.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def status(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        snapshot = client.tiers()
    if options.json:
        print(snapshot.model_dump_json(indent=2))
    else:
        console().print(tables(snapshot))
    return 0


def watch(options: argparse.Namespace) -> int:
    """Shows the tiers until it is interrupted."""
    shown = console()
    with client_of(options) as client:
        try:
            if shown.is_terminal:
                with Live(tables(client.tiers()), console=shown, auto_refresh=False) as live:
                    while True:
                        time.sleep(options.interval)
                        live.update(tables(client.tiers()), refresh=True)
            while True:
                shown.print(tables(client.tiers()))
                time.sleep(options.interval)
        except KeyboardInterrupt:
            return 0


def load_expert(options: argparse.Namespace) -> int:
    return _give("load", options, "device")


def demote(options: argparse.Namespace) -> int:
    return _give("demote", options, options.to)


def move(options: argparse.Namespace) -> int:
    return _give("move", options, options.tier)


def pin(options: argparse.Namespace) -> int:
    return _give("pin", options)


def unpin(options: argparse.Namespace) -> int:
    return _give("unpin", options)


def cancel(options: argparse.Namespace) -> int:
    return _give("cancel", options)


def reload(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print(client.reload())
    return 0


def _give(verb: Verb, options: argparse.Namespace, tier: Tier | None = None) -> int:
    order = Order(verb, options.name, tier)
    with client_of(options) as client:
        ordered = client.order(verb, options.name, tier)
        if not options.wait:
            print(f"{order.expert}: ordered; it is on {ordered.tier} now")
            return 0
        ended = _follow(order, client)
    if not ended.carried_out:
        raise OperatorError(line(ended.text))
    print(ended.text)
    return 0


def _follow(order: Order, client: OperatorClient) -> OrderOutcome:
    """Shows the order's progress until it is settled."""
    pause, most = PAUSES_S
    with Bars() as bars:
        report = bars.of(order.expert)
        while True:
            snapshot = client.tiers()
            expert = snapshot.expert(order.expert)
            ended = outcome(order, expert)
            if ended is not None:
                return ended
            assert expert is not None
            under_way = snapshot.move(order.expert)
            done = (under_way.done or 0.0) if under_way else 0.0
            report(stage(expert, under_way), round(done * expert.weights_bytes), expert.weights_bytes)
            time.sleep(pause)
            pause = min(most, 1.5 * pause)


def _order(
    tiers: Parent,
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
) -> argparse.ArgumentParser:
    made = add_operator_verb(tiers, name, run, help_text)
    made.add_argument("name", metavar="NAME", help="the expert")
    made.add_argument(
        "--no-wait", dest="wait", action="store_false", help="do not wait until it is carried out"
    )
    return made
