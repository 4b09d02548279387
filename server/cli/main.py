"""The ``coe`` command. A failure is one line on standard error and exit status 1."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from cluster.errors import ClusterError
from experts.errors import ExpertsError
from memory_tiers.errors import TiersError
from router.errors import RouterError
from server.cli import experts, keys, plan, route, serve, state, usage
from server.cli.arguments import Parent
from server.cli.bench import cluster as nodes
from server.cli.bench import engine, gateway, public_routing, routers, switch
from server.cli.bench import router as decisions
from server.cli.bench import tiers as policies
from server.cli.cluster import endpoints as cluster_endpoints
from server.cli.cluster import fleet as cluster_fleet
from server.cli.cluster import simulate as cluster_simulate
from server.cli.cluster import verbs as cluster_verbs
from server.cli.command_line import CommandLine
from server.cli.eval import arena_hard, mt_bench
from server.cli.feedback import verbs as feedback
from server.cli.live import explain, logs, top
from server.cli.router import add_category, evaluate, expert_changes, judge, mapping, predict, traffic, train
from server.cli.setup import chat, completion, doctor, init, service
from server.cli.tiers import simulate, verbs
from server.config.settings import SettingsError
from server.operator_api import OperatorError
from server.storage.errors import DatabaseError


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the ``coe`` command; returns the exit status."""
    try:
        given = parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = given.run
        return run(given)
    except (
        ClusterError,
        SettingsError,
        ExpertsError,
        TiersError,
        RouterError,
        DatabaseError,
        OperatorError,
    ) as error:
        print(f"coe: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has left
        return 1
    except KeyboardInterrupt:
        print("coe: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Builds the parser of every verb and option of the command."""
    made: argparse.ArgumentParser = CommandLine(
        prog="coe", description="Many expert LLMs behind one OpenAI-compatible endpoint."
    )
    verb = made.add_subparsers(required=True, metavar="VERB")

    init.add_to(verb)
    doctor.add_to(verb)
    serve.add_to(verb)
    chat.add_to(verb)
    verbs.add_reload_to(verb)
    for room in (top, logs, explain):
        room.add_to(verb)
    plan.add_to(verb)
    route.add_to(verb)
    experts.add_to(verb)
    router = _group(verb, "router", "train and evaluate routers")
    for room in (train, evaluate, mapping, predict, add_category, expert_changes, judge, traffic):
        room.add_to(router)
    benchmarks = _group(verb, "eval", "enter a composition in a benchmark, with a judge")
    for room in (mt_bench, arena_hard):
        room.add_to(benchmarks)
    for room in (feedback, keys, usage, state):
        room.add_to(verb)
    service.add_to(verb)
    completion.add_to(verb, parser)
    tiers = _group(verb, "tiers", "look into the memory tiers, and order")
    for room in (verbs, simulate):
        room.add_to(tiers)
    cluster = _group(verb, "cluster", "many nodes as one")
    for room in (cluster_verbs, cluster_fleet, cluster_endpoints, cluster_simulate):
        room.add_to(cluster)
    bench = _group(verb, "bench", "measure (needs a source checkout)")
    for room in (switch, policies, engine, decisions, gateway, nodes, routers, public_routing):
        room.add_to(bench)
    return made


def _group(parent: Parent, name: str, help_text: str) -> Parent:
    return parent.add_parser(name, help=help_text).add_subparsers(required=True, metavar="VERB")
