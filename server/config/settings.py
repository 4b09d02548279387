"""The configuration: one strict, frozen tree read from one YAML file. Each package owns its piece."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import ByteSize, Field, SecretStr, ValidationError, field_validator, model_validator

from experts.checkpoints.prepared import base_name
from experts.spec import CheckpointSource, ExpertConfig, FamilyConfig, Strict, Task
from experts.vllm.refused_arguments import refusal
from memory_tiers.replicas import SEPARATOR
from memory_tiers.tiers import TiersSettings
from router.settings import CompositionConfig
from server.config.aliases import Aliases, check_aliases
from server.config.api_keys import AccountsConfig, ApiKey, KeyConfig, Secret, digest_of, hashed_of
from server.config.batches import BatchesConfig
from server.config.cluster import ClusterConfig
from server.config.feedback import FeedbackConfig
from server.config.limits import LimitsConfig
from server.config.observation import ObservationConfig
from server.config.older_layout import left_behind
from server.config.places import anchored, kept_in, replaced, state_of
from server.config.problems import first_problem, unknown
from server.config.responses import ResponsesConfig

GIVES_VECTORS = "gives embeddings and answers no questions"
"""Reason why an expert of a family that embeds cannot be part of a composition."""


class SettingsError(Exception):
    """The configuration cannot be used; the message is one line that says where and what to write instead."""


class ServerConfig(Strict):
    """The HTTP gateway."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 serves the network (then set ``api_keys``)."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    processes: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = 1
    """Gateway processes that listen on the port: the node's, and as many beside it, which parse, route and
    stream. ``auto`` means one for every two cores that the gateway may use, at most 8 (docs/scale.md)."""
    api_keys: tuple[ApiKey, ...] = ()
    """Keys clients may send as ``Authorization: Bearer KEY``, beside those that coe keys made; where there
    are neither, any client may call. Each is a secret, or sha256: and its hash, or a mapping, for a name and
    limits."""
    require_key: bool = False
    """Whether callers need a key also where there is none yet."""
    admin_key: Secret | None = None
    """Key that operators send as ``Authorization: Bearer KEY`` to look into the tiers and to give orders; no
    API key does. Absent means that only this machine may, and only where callers need no key."""
    metrics_key: Secret | None = None
    """Key that /metrics needs, as ``Authorization: Bearer KEY``; the admin key does too. Absent means that
    any client of the listener may see them."""
    admin_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of a second listener, which alone then serves operators, /metrics and /ready; 0 takes a free one.
    Absent means that one listener has all."""
    admin_host: str = "127.0.0.1"
    """Address of that listener."""
    log_format: Literal["text", "json"] = "text"
    """How the gateway's log is written, on standard error: ``text`` for people, or ``json``, an object a
    line (docs/guides/monitoring.md)."""
    drain_s: float = Field(default=30.0, ge=0)
    """How long a shutdown waits for answers under way."""
    max_body: ByteSize = ByteSize(16 * 2**20)
    """Largest request body."""
    limits: LimitsConfig = LimitsConfig()
    """Bounds on what clients send and on how long they take."""
    tls_cert: Path | None = None
    """File of the certificate, with those between it and the root; absent means plain HTTP. A relative path
    counts from the configuration file."""
    tls_key: Path | None = None
    """File of the certificate's private key, not encrypted; absent means that ``tls_cert`` has it too."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call from a browser, as ``https://chat.example.com``; ``*`` means all."""
    allowed_hosts: tuple[str, ...] | None = None
    """Names that clients may ask the gateway by, whole or as ``*.example.com``, beside addresses, names
    without a dot and the machine's own; ``*`` means all. Absent means all too, unless this machine alone
    reaches the listener and callers need no key: that keeps out pages in its browser whose name leads here.
    """
    media_hosts: tuple[str, ...] = ()
    """Hosts that engines may fetch images, audio, video and files of messages from; empty means none.
    Content that is sent along as a ``data:`` URL is always taken."""
    share_prefix_cache: bool = False
    """Whether an engine answers one API key's prompts from what it has computed for another's. It saves time
    where keys have long prompts in common, and ``cached_tokens`` then tell a key what others have asked."""
    keep_alive_s: float = Field(default=10.0, ge=0)
    """Seconds after which, and then every how many, a client whose stream has not begun gets a comment that
    says what it waits for; 0 means none."""
    request_timeout_s: float | None = Field(default=None, gt=0)
    """Seconds in which an answer must be complete; absent means as long as it takes."""
    stall_timeout_s: float = Field(default=300.0, ge=0)
    """Seconds after which a stream ends with an error if the engine says nothing more; 0 means never."""
    breaker_failures: int = Field(default=3, ge=0)
    """Failures in a row after which an expert, or an engine, is not asked for a while; 0 means that it is
    always asked."""
    breaker_cool_down_s: float = Field(default=30.0, gt=0)
    """Seconds for which a failed expert or engine is not asked. Then one request tries it again."""

    @property
    def process_count(self) -> int:
        """How many gateway processes there are on this machine."""
        if self.processes != "auto":
            return self.processes
        return min(8, max(1, len(os.sched_getaffinity(0)) // 2))

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        keys = [hashed_of(key) for key in self.api_keys]
        digests = [key.digest for key in keys]
        if self.admin_key is not None and _digest(self.admin_key) in digests:
            raise ValueError("admin_key is one of api_keys, and no API key may give orders; choose another")
        if self.metrics_key is not None and _digest(self.metrics_key) in digests:
            raise ValueError("metrics_key is one of api_keys, which see no metrics; choose another")
        if len(set(digests)) < len(digests):
            raise ValueError("api_keys has the same key twice; leave one out")
        names = [key.key.name for key in keys]
        if len(set(names)) < len(names):
            raise ValueError("api_keys has the same name twice; usage is counted by it: choose another")
        return self

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if not re.fullmatch(r"\*|(\*\.)?[a-z0-9.-]+", name):
                raise ValueError(
                    f"{name!r} is no host; write its name alone, in small letters, without a port"
                )
        return names

    @field_validator("media_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not re.fullmatch(r"[a-z0-9.-]+", host):
                raise ValueError(f"{host!r} is no host; write its name alone, in small letters")
        return hosts


def _digest(secret: SecretStr) -> bytes:
    return digest_of(secret.get_secret_value().encode())


class Settings(Strict):
    """The whole configuration."""

    state: Path | None = None
    """Folder of all state; a relative path counts from the configuration file. Absent means COE_STATE
    of the environment, else .state of the checkout, else $XDG_STATE_HOME/coe (docs/guides/state.md)."""
    store: Path = Path("models")
    """Folder of prepared checkpoints; a relative path counts from ``state``."""
    logs: Path = Path("logs")
    """Folder of the engines' logs; a relative path counts from ``state``."""
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
    aliases: dict[str, str] = Field(default={})
    """Other names of models, for tools that know only another provider's: the alias, or a pattern with ``*``,
    and the expert or composition that it stands for, which may have a budget (docs/guides/tools.md)."""
    cluster: ClusterConfig | None = None
    """Other nodes that serve the same experts; absent means that there are none (docs/scale.md)."""
    accounts: AccountsConfig = AccountsConfig()
    """The keys that coe keys made, and what each key used."""
    feedback: FeedbackConfig | None = None
    """Decisions and clients' feedback, kept as training data; absent means that nothing is kept."""
    batches: BatchesConfig | None = None
    """Files and batches; absent means that none are taken."""
    observation: ObservationConfig = ObservationConfig()
    """Bounds of what is kept in memory for operators (docs/guides/page.md); nothing of it is written."""
    responses: ResponsesConfig = ResponsesConfig()
    """Responses kept for clients to read and to go on from at ``/v1/responses``
    (docs/guides/responses.md)."""

    @property
    def computes(self) -> bool:
        """Returns whether there are engines here, and not on other nodes alone."""
        return self.cluster is None or not self.cluster.gateway

    def base_of(self, expert: str) -> CheckpointSource | None:
        """Returns the base that a LoRA expert is served with."""
        return self.families[self.experts[expert].family].base

    def task_of(self, expert: str) -> Task:
        return self.families[self.experts[expert].family].task

    def names(self) -> Aliases:
        """Returns what resolves aliases, made anew."""
        return Aliases(self.aliases, self.experts, self.compositions)

    @property
    def generating(self) -> frozenset[str]:
        """Returns the experts that a composition may choose: those that generate text."""
        return frozenset(name for name in self.experts if self.task_of(name) == "generate")

    def check_models(self, names: Iterable[str], where: str) -> None:
        """Raises ValueError for a name of neither a composition nor an expert, nor of an alias."""
        known = [*self.compositions, *self.experts, *self.aliases]
        for name in names:
            if name not in known and self.names().model_of(name) is None:
                raise ValueError(f"{where}: {unknown(name, known)}")

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for name, expert in self.experts.items():
            if SEPARATOR in name and name.partition(SEPARATOR)[0] in self.experts:
                raise ValueError(f"experts.{name}: experts on engines are named so; leave out {SEPARATOR}")
            if expert.family not in self.families:
                raise ValueError(f"experts.{name}.family: {unknown(expert.family, self.families)}")
            if "tools" in (expert.capabilities or ()) and not self.families[expert.family].parses_tools:
                raise ValueError(
                    f"experts.{name}.capabilities: tools need families.{expert.family}.tool_parser; set it, "
                    "or leave tools out"
                )
        for name, family in self.families.items():
            if SEPARATOR in name and name.partition(SEPARATOR)[0] in self.families:
                raise ValueError(f"families.{name}: engines of a family are named so; leave out {SEPARATOR}")
            reason = refusal(
                family.mode,
                family.extra_args,
                each_captures=family.cuda_graphs == "each",
                sleeps=family.sleep_after_s is not None,
                ranks=family.tensor_parallel_size,
            )
            if reason is not None:
                raise ValueError(f"families.{name}.extra_args: {reason}; leave it out")
            if family.base is not None and base_name(name) in self.experts:
                raise ValueError(f"experts.{base_name(name)}: the base of family {name} has this name")
        for name, composition in self.compositions.items():
            if name in self.experts:
                raise ValueError(f"compositions.{name}: an expert has this name; choose another")
            for trained, expert_name in composition.experts.items():
                self._check_answers(expert_name, f"compositions.{name}.experts.{trained}")
            for category, expert_name in (composition.mapping or {}).items():
                self._check_answers(expert_name, f"compositions.{name}.mapping.{category}")
            if isinstance(composition.fallback, str):
                self._check_answers(composition.fallback, f"compositions.{name}.fallback")
        check_aliases(self.aliases, self.experts, self.compositions)
        for position, key in enumerate(self.server.api_keys):
            if isinstance(key, KeyConfig):
                self.check_models(key.models or (), f"server.api_keys.{position}.models")
        return self

    def _check_answers(self, expert: str, where: str) -> None:
        """Raises ValueError for a name of no expert, or of one that cannot be part of a composition."""
        if expert not in self.experts:
            raise ValueError(f"{where}: {unknown(expert, self.experts)}")
        if expert not in self.generating:
            raise ValueError(f"{where}: {expert!r} {GIVES_VECTORS}; name an expert that generates")


def load(path: Path) -> Settings:
    """Reads and checks ``path``. Relative paths in it become absolute. Raises SettingsError, also where an
    older version kept something elsewhere that is not moved yet."""
    settings = read(path)
    folder = path.resolve().parent
    for left in left_behind(settings, folder):
        if not left.binds:
            continue
        if left.new.exists():
            raise SettingsError(
                f"{path}: {left.setting}: an older version kept it at {left.old}, and there is one at "
                f"{left.new} too: remove the one that you do not need, or give this configuration a state "
                "folder of its own (state)"
            )
        raise SettingsError(
            f"{path}: {left.setting}: an older version kept it at {left.old}; move it to {left.new} with: "
            f"coe state move --config {path}"
        )
    return _absolute(settings, folder)


def read(path: Path) -> Settings:
    """Reads and checks ``path``; relative paths in it stay as they are. Raises SettingsError."""
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
        state_of(settings.state, path.resolve().parent)
    except ValidationError as error:
        raise SettingsError(f"{path}: {first_problem(error, Settings)}") from error
    except RuntimeError as error:
        raise SettingsError(f"{path}: {error}: say where to keep things with state, or COE_STATE") from error
    return settings


def _absolute(settings: Settings, folder: Path) -> Settings:
    """Returns ``settings`` with absolute paths. ``folder``: of the configuration file."""

    def source(given: CheckpointSource) -> CheckpointSource:
        if given.folder is None:
            return given
        return given.model_copy(update={"folder": anchored(given.folder, folder)})

    experts = {}
    for name, expert in settings.experts.items():
        template = expert.chat_template and anchored(expert.chat_template, folder)
        experts[name] = expert.model_copy(
            update={"checkpoint": source(expert.checkpoint), "chat_template": template}
        )
    families = {
        name: family.model_copy(update={"base": source(family.base)}) if family.base else family
        for name, family in settings.families.items()
    }
    compositions = {
        name: _composition_in(folder, composition) for name, composition in settings.compositions.items()
    }
    server = settings.server
    for field in ("tls_cert", "tls_key"):
        if (path := getattr(server, field)) is not None:
            server = replaced(server, field, anchored(path, folder))
    state = state_of(settings.state, folder)
    made = {"state": state, "server": server, "experts": experts, "families": families}
    return kept_in(settings.model_copy(update=made | {"compositions": compositions}), state)


def _composition_in(folder: Path, composition: CompositionConfig) -> CompositionConfig:
    changes: dict[str, Any] = {"artifact": anchored(composition.artifact, folder)}
    if composition.canary is not None:
        artifact = anchored(composition.canary.artifact, folder)
        changes["canary"] = composition.canary.model_copy(update={"artifact": artifact})
    return composition.model_copy(update=changes)
