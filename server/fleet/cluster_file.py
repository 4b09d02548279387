"""The file of ``coe cluster up``."""

from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from experts.spec import Strict
from server.config.settings import SettingsError


class ClusterFile(Strict):
    """Says what every machine of a Ray cluster serves."""

    config: Path
    """Configuration that each node serves, at this path on every machine."""
    secret_file: Path
    """File with the secret that nodes share, at this path on every machine."""
    state: Path | None = None
    """Folder in which each node has one of its own for what it keeps, by the id that Ray gave its machine.
    Absent means what the configuration says."""
    ray_address: str = "auto"
    """Ray cluster to join, as ``ray start`` printed it."""
    name: str = "coe"
    """Name of the actors, for several fleets in one Ray cluster."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port for clients on each machine; 0 takes a free one."""
    node_port: int = Field(default=8100, ge=0, le=65535)
    """Port for other nodes on each machine; 0 takes a free one."""
    options: tuple[str, ...] = ()
    """More options of ``coe serve``."""

    @classmethod
    def read(cls, file: Path) -> "ClusterFile":
        """Reads the file; relative paths count from its folder. Raises SettingsError."""
        try:
            made = cls.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{file}: cannot be read: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SettingsError(f"{file}: {where}: {first['msg']}") from error
        folder = file.absolute().parent
        paths = {name: folder / getattr(made, name) for name in ("config", "secret_file")}
        state = None if made.state is None else folder / made.state
        return made.model_copy(update={**paths, "state": state})
