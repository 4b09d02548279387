"""The ``coe`` command: its verbs and options. A failure is one line on standard error and exit status 1."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from pydantic import ByteSize, TypeAdapter, ValidationError

import server.cli.bench.categories as category_bench_verbs
import server.cli.bench.gateway as gateway_bench_verb
import server.cli.bench.router as router_bench_verb
import server.cli.bench.routers as routers_bench_verb
import server.cli.feedback as feedback_verbs
import server.cli.keys as key_verbs
import server.cli.output as verbs
import server.cli.router.judge_options as judge_options
import server.cli.router.options as router_options
import server.cli.router.traffic as traffic_verbs
import server.cli.tiers.verbs as operator_verbs
import server.cli.usage as usage_verb
from experts.errors import ExpertsError
from memory_tiers.errors import TiersError
from memory_tiers.simulator.comparison import RIVALS
from memory_tiers.tiers import Tier
from router.errors import RouterError
from server.config.settings import SettingsError
from server.operator_api import OperatorError
from server.storage.errors import DatabaseError

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent.parent / "configs" / "embedded.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the ``coe`` command; returns the exit status."""
    try:
        options = parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except (SettingsError, ExpertsError, TiersError, RouterError, DatabaseError, OperatorError) as error:
        print(f"coe: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has left
        return 1
    except KeyboardInterrupt:
        print("coe: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Every verb and option of the command."""
    top = argparse.ArgumentParser(
        prog="coe", description="Many expert LLMs behind one OpenAI-compatible endpoint."
    )
    verb = top.add_subparsers(required=True, metavar="VERB")

    serve = _verb(verb, "serve", verbs.serve, "serve a configuration over HTTP")
    serve.add_argument("--host", help="address to listen on, over the configuration's")
    serve.add_argument(
        "--port", type=int, help="port to listen on, over the configuration's; 0 takes a free one"
    )
    serve.add_argument("--tls-cert", type=Path, help="certificate for HTTPS, over the configuration's")
    serve.add_argument("--tls-key", type=Path, help="the certificate's private key, over the configuration's")
    serve.add_argument("--verbose", action="store_true", help="log every HTTP access and library")

    _operator_verb(
        verb, "reload", operator_verbs.reload, "make a running gateway read its configuration again"
    )

    route = _verb(verb, "route", verbs.route, "print the decision for a prompt, without starting an engine")
    route.add_argument("prompt", help="the text a person would send; - reads standard input")
    route.add_argument("--composition", help="which composition decides; the first one by default")
    route.add_argument("--artifact", type=Path, help="a router artifact to use instead of a configuration's")
    route.add_argument("--explain", action="store_true", help="say all that led to it")
    route.add_argument("--json", action="store_true", help="print the decision as JSON")

    experts = verb.add_parser("experts", help="prepare, list and verify checkpoints").add_subparsers(
        required=True, metavar="VERB"
    )
    prepare = _verb(
        experts, "prepare", verbs.prepare, "fetch, convert and verify the experts of a configuration"
    )
    prepare.add_argument("names", nargs="*", help="experts to prepare; all by default")
    _verb(experts, "list", verbs.list_experts, "the experts, their sizes and whether they are prepared")
    verify = _verb(experts, "verify", verbs.verify, "hash every file of the prepared experts")
    verify.add_argument("names", nargs="*", help="experts to verify; all by default")

    router = verb.add_parser("router", help="train and evaluate routers").add_subparsers(
        required=True, metavar="VERB"
    )
    router_options.add_verbs(router, _verb)
    judge_options.add(
        _verb(
            router,
            "judge",
            judge_options.judge,
            "score prompts by comparing experts' answers with a judge",
            config=False,
        )
    )
    traffic_verbs.add_verb(router, _verb)
    feedback_verbs.add_verbs(verb, _verb)
    key_verbs.add_verbs(verb, _verb)
    usage_verb.add_verb(verb, _verb)

    tiers = verb.add_parser("tiers", help="look into the memory tiers, and order").add_subparsers(
        required=True, metavar="VERB"
    )
    _operator_verbs(tiers)
    replayed = _verb(
        tiers, "replay", verbs.replay_tiers, "feed a recorded event log to the tiers again", config=False
    )
    replayed.add_argument("log", type=Path, help="what tiers.event_log of a configuration wrote")

    _simulate_options(
        _verb(
            tiers,
            "simulate",
            verbs.simulate_tiers,
            "what the tiers would do on another machine",
            config=False,
        )
    )

    bench = verb.add_parser("bench", help="measure (needs a source checkout)").add_subparsers(
        required=True, metavar="VERB"
    )
    switch = _verb(bench, "switch", verbs.bench_switch, "what a switch, a load and a start cost")
    switch.add_argument("--runs", type=_positive, default=5, help="repetitions; medians are reported")
    switch.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    measured = _verb(
        bench,
        "tiers",
        verbs.bench_tiers,
        "what deciding costs, and policies beside their rivals",
        config=False,
    )
    measured.add_argument("--requests", type=_positive, default=4000, help="of each simulated trace")
    measured.add_argument("--seed", type=int, default=1, help="same seed, same traces")
    measured.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    engine = _verb(bench, "engine", verbs.bench_engine, "interleaved experts beside other ways to serve them")
    engine.add_argument("--experts", type=_positive, nargs="+", default=[1, 2, 4], help="how many experts")
    engine.add_argument(
        "--streams", type=_positive, nargs="+", default=[16, 64], help="how many streams ask at once"
    )
    engine.add_argument("--tokens", type=_positive, default=32, help="tokens of each answer")
    engine.add_argument("--requests", type=_positive, default=2, help="requests of each stream")
    engine.add_argument("--burst", type=_positive, default=8, help="bursty: requests in a row for one expert")
    engine.add_argument("--repeat", type=_positive, default=1, help="repetitions; medians are reported")
    engine.add_argument(
        "--llama-python",
        type=Path,
        metavar="FILE",
        help="a Python with llama-cpp-python's server, to compare",
    )
    engine.add_argument(
        "--llama-model", type=Path, metavar="FILE", help="its GGUF file; the embedded base by default"
    )
    engine.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    router_bench_verb.add_verb(bench, _verb, _positive)
    gateway_bench_verb.add_verb(bench, _verb, _positive)
    routers_bench_verb.add_verb(bench, _verb, _positive)
    category_bench_verbs.add_verbs(bench, _verb)
    return top


def _operator_verbs(tiers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    status = _operator_verb(tiers, "status", operator_verbs.status, "where a gateway's experts are now")
    status.add_argument("--json", action="store_true", help="print all of it as JSON")
    watch = _operator_verb(tiers, "watch", operator_verbs.watch, "the same, again and again until Ctrl-C")
    watch.add_argument("--interval", type=_number, default=1.0, metavar="SECONDS", help="between two looks")

    _order(tiers, "load", operator_verbs.load_expert, "bring an expert to the device")
    demote = _order(tiers, "demote", operator_verbs.demote, "take an expert down once nobody uses it")
    demote.add_argument("--to", choices=("host", "disk"), default="host", help="how far; host by default")
    move = _order(tiers, "move", operator_verbs.move, "bring an expert, or take it down, to a tier")
    move.add_argument("tier", choices=get_args(Tier), metavar="TIER", help=", ".join(get_args(Tier)))
    _order(tiers, "pin", operator_verbs.pin, "bring an expert to the device for good")
    _order(tiers, "unpin", operator_verbs.unpin, "let an expert make room for others again")
    _order(tiers, "cancel", operator_verbs.cancel, "end an expert's load; whoever waits for it is rejected")


def _order(
    tiers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
) -> argparse.ArgumentParser:
    made = _operator_verb(tiers, name, run, help_text)
    made.add_argument("name", metavar="NAME", help="the expert")
    made.add_argument(
        "--no-wait", dest="wait", action="store_false", help="do not wait until it is carried out"
    )
    return made


def _operator_verb(
    parent: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
) -> argparse.ArgumentParser:
    """A verb that asks a running gateway, with the key in COE_ADMIN_KEY or the configuration's."""
    made = _verb(parent, name, run, help_text)
    made.add_argument("--url", help="of the gateway; COE_URL, or where the configuration says it listens")
    return made


def _simulate_options(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument(
        "--profile",
        default="dgx-a100",
        help="sn40l, dgx-a100, dgx-h100, this-machine, or a YAML or JSON file",
    )
    simulate.add_argument("--device", type=_size, help="device memory for weights, over the profile's")
    simulate.add_argument("--host", type=_size, help="host memory for experts, over the profile's")
    simulate.add_argument(
        "--experts", type=_count, default=150, help="how many; a trace's own if it is a file"
    )
    simulate.add_argument("--expert-size", type=_size, default=_size("13.5GB"), help="bytes of each")
    simulate.add_argument(
        "--trace",
        default="zipf",
        help="zipf, uniform, adversarial (ABAACABC over one more than fit), round-robin (over as many), or a "
        "file: JSON lines or an event log",
    )
    simulate.add_argument("--skew", type=_number, default=1.0, help="Zipf's exponent")
    simulate.add_argument("--requests", type=_count, default=5000, help="at most so many of a file")
    simulate.add_argument("--rate", type=_number, default=5.0, help="requests a second, on average")
    simulate.add_argument("--seed", type=int, default=0, help="same seed, same figures")
    simulate.add_argument(
        "--policy", type=_rival, nargs="+", default=list(RIVALS), help=f"some of {', '.join(RIVALS)}"
    )
    simulate.add_argument(
        "--links", type=_count, help="links to the device; as many as the published comparison by default"
    )
    simulate.add_argument(
        "--no-overlap", action="store_true", help="nothing is computed while an expert is loaded"
    )
    simulate.add_argument(
        "--restart", action="store_true", help="each load starts a process, as swappers on GPUs do"
    )
    simulate.add_argument("--tokens", type=_count, default=100, help="tokens of an answer")
    simulate.add_argument("--streams", type=_count, default=64, help="answers computed at once")
    simulate.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    simulate.add_argument("--plot", type=Path, metavar="FILE", help="draw them there as PNG")


def _verb(
    parent: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
    *,
    config: bool = True,
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = parent.add_parser(name, help=help_text, description=help_text)
    made.set_defaults(run=run)
    if config:
        default = Path(os.environ.get("COE_CONFIG", DEFAULT_CONFIG))
        made.add_argument(
            "--config", type=Path, default=default, help="configuration file; COE_CONFIG or the embedded one"
        )
    return made


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _count(text: str) -> int:
    return round(_parsed(text, r"[1-9]\d*", "a whole number from 1"))


def _number(text: str) -> float:
    return _parsed(text, r"\d*[1-9]\d*(\.\d+)?|\d*\.\d*[1-9]\d*", "a number over 0")


def _parsed(text: str, pattern: str, expected: str) -> float:
    """A wrong value is one line and exit status 1, like a wrong file."""
    if not re.fullmatch(pattern, text):
        raise SettingsError(f"{text!r} is not {expected}")
    return float(text)


def _size(text: str) -> int:
    try:
        size = TypeAdapter(ByteSize).validate_python(text)
    except ValidationError as error:
        raise SettingsError(f"{text!r} is not a size such as 13.5GB or 64GiB") from error
    if size < 1:
        raise SettingsError(f"{text!r} is no memory at all")
    return size


def _rival(text: str) -> str:
    if text not in RIVALS:
        raise SettingsError(f"policy {text!r} is unknown; there are {', '.join(RIVALS)}")
    return text
