"""``coe experts``: prepares, lists and verifies checkpoints."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from server.cli.arguments import Parent, add_verb
from server.cli.output import console
from server.cli.tables import table
from server.config.settings import Settings, SettingsError, load

SIZES = ("parameters", "weights")


def add_to(parent: Parent) -> None:
    verbs = parent.add_parser("experts", help="prepare, list and verify checkpoints").add_subparsers(
        required=True, metavar="VERB"
    )
    prepared = add_verb(verbs, "prepare", prepare, "fetch, convert and verify the experts of a configuration")
    prepared.add_argument("names", nargs="*", help="experts to prepare; all by default")
    add_verb(verbs, "list", list_experts, "the experts, their sizes and whether they are prepared")
    verified = add_verb(verbs, "verify", verify, "hash every file of the prepared experts")
    verified.add_argument("names", nargs="*", help="experts to verify; all by default")


def prepare(options: argparse.Namespace) -> int:
    settings = load(options.config)
    prepare_experts(settings, _chosen(settings, options.names), options.config)
    return 0


def prepare_experts(settings: Settings, names: Sequence[str], file: Path) -> None:
    """Prepares ``names`` of the experts, with bars. Raises CheckpointError, which names ``file``, from which
    the settings were read."""
    from experts.checkpoints.prepare import prepare as prepare_expert
    from experts.engines.recording import record_canaries
    from experts.errors import CheckpointError
    from server.cli.progress import Bars

    with Bars() as bars:
        progress_of = {name: bars.of(name) for name in names}
        for name, progress in progress_of.items():
            expert, base, task = settings.experts[name], settings.base_of(name), settings.task_of(name)
            try:
                prepare_expert(name, expert, settings.store, progress, base=base, task=task)
            except CheckpointError as error:
                raise type(error)(f"{file}: {error}") from error
        generating = {name: bar for name, bar in progress_of.items() if name in settings.generating}
        record_canaries(generating, settings.store)  # of tokens, of which an embedding model says none


def list_experts(options: argparse.Namespace) -> int:
    import experts.checkpoints.prepared as checkpoint
    from experts.errors import CheckpointError

    settings = load(options.config)
    shown = table("expert", "family", *SIZES, "prepared", "description", numbers=SIZES, wrapped="description")
    for name, config in settings.experts.items():
        try:
            base, task = settings.base_of(name), settings.task_of(name)
            expert = checkpoint.open_expert(name, config, settings.store, base, task)
        except CheckpointError:
            shown.add_row(name, config.family, "-", "-", "no", config.description)
            continue
        parameters, weights = f"{expert.parameters / 1e6:.1f} M", f"{expert.weights_bytes / 1e6:.0f} MB"
        shown.add_row(name, config.family, parameters, weights, "yes", config.description)
    console().print(shown)
    return 0


def verify(options: argparse.Namespace) -> int:
    import experts.checkpoints.prepared as checkpoint

    settings = load(options.config)
    names = _chosen(settings, options.names)
    families = dict.fromkeys(settings.experts[name].family for name in names)
    bases = {family: checkpoint.base_name(family) for family in families if settings.families[family].base}
    for base in bases.values():
        checkpoint.verify(base, settings.store)
        print(f"{base}: every file is what preparation wrote")
    for name in names:
        family = settings.experts[name].family
        base_folder = settings.store / bases[family] if family in bases else None
        checkpoint.verify(name, settings.store, base=base_folder)
        print(f"{name}: every file is what preparation wrote")
    return 0


def _chosen(settings: Settings, names: list[str]) -> list[str]:
    for name in names:
        if name not in settings.experts:
            raise SettingsError(f"no expert {name!r}; the configuration has: {', '.join(settings.experts)}")
    return names or list(settings.experts)
