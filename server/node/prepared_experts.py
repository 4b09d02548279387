"""Tells a gateway without engines what nodes have prepared: the small files, and no weights."""

import http.client
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from experts.checkpoints.manifest import FILE
from experts.checkpoints.prepared import base_name, folder_of
from server.config.cluster import Address, ClusterConfig
from server.config.settings import Settings, SettingsError
from server.errors import BadRequest
from server.node.weights_source import Way
from server.peers.identity import Identity
from server.peers.wire import PREPARED

log = logging.getLogger("coe.cluster")

FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    FILE,
)
"""Files that describe an expert; the manifest is the last to be written."""


class Prepared(BaseModel):
    """The small files of a prepared folder, by their names."""

    files: dict[str, str]


def prepared(settings: Settings, name: str) -> Prepared:
    """Returns what this node has prepared under ``name``. Raises BadRequest."""
    if name not in _names(settings):
        raise BadRequest(f"nothing called {name[:100]} is configured here")
    folder = folder_of(name, settings.store)
    try:
        there = [file for file in FILES if (folder / file).is_file()]
        return Prepared(files={file: (folder / file).read_text(encoding="utf-8") for file in there})
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{name} cannot be read here: {error}") from error


def with_experts_of_nodes(settings: Settings) -> Settings:
    """Returns the settings with a store of their own, which has what nodes have prepared of all experts.
    Raises SettingsError where no node says."""
    config = settings.cluster
    assert config is not None, "it is a gateway of nodes"
    way, store = _way(config), settings.store.with_name(f"{settings.store.name}-of-nodes")
    for name in _names(settings):
        _write(folder_of(name, store), _asked(config, way, name))
    return settings.model_copy(update={"store": store})


def _names(settings: Settings) -> list[str]:
    """Lists the folders of the store that are configured: experts, and bases of LoRA experts."""
    bases = [base_name(name) for name, family in settings.families.items() if family.base is not None]
    return [*settings.experts, *bases]


def _way(config: ClusterConfig) -> Way:
    identity = Identity.of(config.secret.get_secret_value())
    context = identity.context("client")
    return Way(identity.token, lambda address: context if config.encrypted(address) else None)


def _asked(config: ClusterConfig, way: Way, name: str) -> Prepared:
    """Asks one node after the other. Raises SettingsError."""
    why = "cluster.peers names none"
    for peer in config.peers:
        try:
            return _of(way, Address.parse(peer), name)
        except (OSError, http.client.HTTPException, ValidationError) as error:
            why = f"{peer}: {str(error) or type(error).__name__}"
    raise SettingsError(f"no node says what {name} is: {why}")


def _of(way: Way, address: Address, name: str) -> Prepared:
    """Raises OSError, HTTPException, ValidationError."""
    connection = way.connect(address)
    try:
        path = f"{PREPARED}?name={quote(name, safe='')}"
        connection.request("GET", path, headers={"authorization": f"Bearer {way.token}"})
        response = connection.getresponse()
        said = response.read()
        if response.status != 200:
            raise http.client.HTTPException(f"it answered {response.status}")
        return Prepared.model_validate_json(said)
    finally:
        connection.close()


def _write(folder: Path, found: Prepared) -> None:
    """Raises SettingsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        for name, text in _known(found):
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written: {error.strerror}") from error


def _known(found: Prepared) -> Iterator[tuple[str, str]]:
    return ((name, found.files[name]) for name in FILES if name in found.files)
