"""From the options of ``coe router train`` to an embedder."""

import argparse
import os
import re

from router.embedders.embedder import Embedder
from router.embedders.endpoint import URL_VARIABLE, EndpointEmbedder
from router.embedders.registry import embedder_named
from router.manifest import EndpointRecord
from server.config.settings import SettingsError

ENDPOINT = "endpoint"


def chosen(options: argparse.Namespace) -> Embedder | None:
    """None: the default. Raises SettingsError, RouterError."""
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
    given = {
        "instruction": options.embedder_instruction,
        "characters": options.embedder_characters,
        "parameters_b": _billions(options.embedder_parameters),
    }
    kept = {name: value for name, value in given.items() if value is not None}
    return EndpointEmbedder(EndpointRecord(url=url, model=options.embedder_model, **kept))


def _billions(size: str | None) -> float | None:
    if size is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([MB])", size)
    if found is None:
        raise SettingsError(f"--embedder-parameters {size}: write it like 7.11B or 335M")
    return float(found[1]) / (1 if found[2] == "B" else 1000)
