"""The embedder of ``coe router train``: its options, and what they choose."""

import argparse
import os
from typing import TYPE_CHECKING

from server.cli.router.sizes import parameters
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from router.embedders.embedder import Embedder

ENDPOINT = "endpoint"
STATIC = "minilm-static-384"
NONE = "none"


def add_to(train: argparse.ArgumentParser) -> None:
    """Adds the options that choose an embedder."""
    group = train.add_argument_group("embedder")
    group.add_argument(
        "--embedder", metavar="NAME", help="one that ships, or endpoint; minilm-l6-int8 by default"
    )
    group.add_argument(
        "--quick",
        metavar="NAME",
        help="embedder that reads a prompt first and decides alone where it is sure enough; by default "
        f"{STATIC} before another one that ships, and none before an endpoint; {NONE}: no such stage",
    )
    group.add_argument(
        "--embedder-url",
        metavar="URL",
        help="OpenAI-compatible endpoint with /embeddings; COE_EMBEDDER_URL. COE_EMBEDDER_KEY has its key",
    )
    group.add_argument("--embedder-model", metavar="NAME", help="what it calls the model")
    group.add_argument("--embedder-parameters", metavar="SIZE", help="of the model, such as 7.11B or 335M")
    group.add_argument("--embedder-instruction", metavar="TEXT", help="put before each text as it is")
    group.add_argument(
        "--embedder-characters", type=int, metavar="N", help="what is sent of a longer text; 4096 by default"
    )


def chosen(options: argparse.Namespace) -> "Embedder | None":
    """Opens the embedder that ``options`` name; None is the default. Raises SettingsError, RouterError."""
    from router.artifacts.manifest import EndpointRecord
    from router.embedders.endpoint import URL_VARIABLE, EndpointEmbedder
    from router.embedders.registry import embedder_named

    of_endpoint = {
        name: value for name, value in vars(options).items() if name.startswith("embedder_") and value
    }
    if options.embedder != ENDPOINT:
        if of_endpoint:
            raise SettingsError(f"--{next(iter(of_endpoint)).replace('_', '-')} needs --embedder {ENDPOINT}")
        return None if options.embedder is None else embedder_named(options.embedder)
    url = options.embedder_url or os.environ.get(URL_VARIABLE)
    if not url or not options.embedder_model:
        raise SettingsError(f"--embedder {ENDPOINT} needs --embedder-url and --embedder-model")
    if options.embedder_characters is not None and options.embedder_characters < 1:
        raise SettingsError(f"--embedder-characters {options.embedder_characters}: it must be over 0")
    size = options.embedder_parameters
    given = {
        "instruction": options.embedder_instruction,
        "characters": options.embedder_characters,
        "parameters_b": None if size is None else parameters("--embedder-parameters", size),
    }
    kept = {name: value for name, value in given.items() if value is not None}
    return EndpointEmbedder(EndpointRecord(url=url, model=options.embedder_model, **kept))


def quick(options: argparse.Namespace) -> "Embedder | None":
    """Opens the embedder of the quick stage; None where there is none. Raises RouterError."""
    from router.embedders.registry import embedder_named

    name = options.quick
    if name is None:
        name = NONE if options.embedder in (ENDPOINT, STATIC) else STATIC
    return None if name == NONE else embedder_named(name)
