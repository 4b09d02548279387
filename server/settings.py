"""The configuration: one strict, frozen tree read from one YAML file. Each package owns its piece."""

import difflib
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ByteSize, Field, SecretStr, ValidationError, model_validator

from experts.checkpoint import base_name
from experts.spec import CheckpointSource, ExpertConfig, FamilyConfig, Strict
from memory_tiers.tiers import TiersSettings
from router.settings import CompositionConfig
from server.feedback_settings import FeedbackConfig


class SettingsError(Exception):
    """The configuration cannot be used; the message is one line that says where and what to write instead."""


class ServerConfig(Strict):
    """The HTTP gateway."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 serves the network (then set ``api_keys``)."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    api_keys: tuple[SecretStr, ...] = ()
    """Keys clients may send as ``Authorization: Bearer KEY``; empty means that anybody may call."""
    admin_key: SecretStr | None = None
    """Key that operators send as ``Authorization: Bearer KEY`` to look into the tiers and to give orders; no
    API key does. Absent means that only this machine may, and only where there are no ``api_keys``."""
    drain_s: float = Field(default=30.0, ge=0)
    """How long a shutdown waits for answers under way."""
    max_body: ByteSize = ByteSize(16 * 2**20)
    """Largest request body."""

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        if self.admin_key is not None and self.admin_key in self.api_keys:
            raise ValueError("admin_key is one of api_keys, and no API key may give orders; choose another")
        return self


class Settings(Strict):
    """The whole configuration."""

    store: Path = Path(".models")
    """Folder of prepared checkpoints; a relative path counts from the configuration file."""
    logs: Path = Path("logs")
    """Folder of the engines' logs; a relative path counts from the configuration file."""
    server: ServerConfig = ServerConfig()
    """The HTTP gateway."""
    tiers: TiersSettings
    """Memory budgets and residency."""
    families: dict[str, FamilyConfig]
    """One engine each; the key is the family's name."""
    experts: dict[str, ExpertConfig] = Field(min_length=1)
    """The experts; the key is the expert's name, which clients may ask for as ``model``."""
    compositions: dict[str, CompositionConfig] = Field(default={})
    """Routed models; the key is the name clients ask for as ``model``."""
    feedback: FeedbackConfig | None = None
    """Decisions and clients' feedback, kept as training data; absent means that nothing is kept."""

    def base_of(self, expert: str) -> CheckpointSource | None:
        """The base that a LoRA expert is served with."""
        return self.families[self.experts[expert].family].base

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for name, expert in self.experts.items():
            if expert.family not in self.families:
                raise ValueError(f"experts.{name}.family: {_unknown(expert.family, self.families)}")
            if "tools" in (expert.capabilities or ()) and not self.families[expert.family].parses_tools:
                raise ValueError(
                    f"experts.{name}.capabilities: tools need families.{expert.family}.tool_parser; set it, "
                    "or leave tools out"
                )
        for name, family in self.families.items():
            if family.base is not None and base_name(name) in self.experts:
                raise ValueError(f"experts.{base_name(name)}: the base of family {name} has this name")
        for name, composition in self.compositions.items():
            if name in self.experts:
                raise ValueError(f"compositions.{name}: an expert has this name; choose another")
            for category, expert_name in (composition.mapping or {}).items():
                if expert_name not in self.experts:
                    where = f"compositions.{name}.mapping.{category}"
                    raise ValueError(f"{where}: {_unknown(expert_name, self.experts)}")
        return self


def load(path: Path) -> Settings:
    """Reads and checks ``path``. Relative paths in it become absolute. Raises SettingsError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name a configuration with --config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected a mapping with the keys {', '.join(Settings.model_fields)}")
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_problem(error)}") from error
    return _absolute(settings, path.resolve().parent)


def _absolute(settings: Settings, folder: Path) -> Settings:
    def anchored(path: Path) -> Path:
        return (folder / path.expanduser()).resolve()

    def anchored_source(source: CheckpointSource) -> CheckpointSource:
        if source.folder is None:
            return source
        return source.model_copy(update={"folder": anchored(source.folder)})

    experts = {}
    for name, expert in settings.experts.items():
        checkpoint = anchored_source(expert.checkpoint)
        template = anchored(expert.chat_template) if expert.chat_template else None
        experts[name] = expert.model_copy(update={"checkpoint": checkpoint, "chat_template": template})
    families = {
        name: family.model_copy(update={"base": anchored_source(family.base)}) if family.base else family
        for name, family in settings.families.items()
    }
    compositions = {
        name: composition.model_copy(update={"artifact": anchored(composition.artifact)})
        for name, composition in settings.compositions.items()
    }
    feedback = settings.feedback
    if feedback is not None:
        feedback = feedback.model_copy(update={"file": anchored(feedback.file)})
    return settings.model_copy(
        update={
            "store": anchored(settings.store),
            "feedback": feedback,
            "tiers": settings.tiers.model_copy(
                update={"event_log": anchored(settings.tiers.event_log) if settings.tiers.event_log else None}
            ),
            "logs": anchored(settings.logs),
            "experts": experts,
            "families": families,
            "compositions": compositions,
        }
    )


def _unknown(name: str, valid: Any) -> str:
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"valid names: {', '.join(sorted(valid)) or 'none'}"
    return f"{name!r} is not defined; {hint}"


def _first_problem(error: ValidationError) -> str:
    # A misspelt field is also a missing one; the misspelling is what to say.
    problem = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    location = [str(part) for part in problem["loc"]]
    where = ".".join(location)
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(location[:-1])
        return f"{where}: unknown field; {_suggestion(location[-1], fields)}"
    if problem["type"] == "missing":
        return f"{where}: missing; this field is required"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _suggestion(name: str, fields: list[str]) -> str:
    close = difflib.get_close_matches(name, fields, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"valid fields: {', '.join(fields)}"


def _fields_at(location: list[str]) -> list[str]:
    """Field names of the model at a path such as ``["experts", "law", "checkpoint"]``."""
    model: type[BaseModel] = Settings
    keyed = False  # the next part is a key of a dict, not a field
    for part in location:
        if keyed:
            keyed = False
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
        keyed = model is not annotation and dict in (getattr(annotation, "__origin__", None),)
    return list(model.model_fields)
