"""The engine of each family, by its mode."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from experts.checkpoints.fingerprint import read_json
from experts.checkpoints.prepared import base_name
from experts.engines.elsewhere import EngineElsewhere
from experts.engines.engine import Engine
from experts.engines.nursery import Nurseries
from experts.errors import EngineStartFailed
from experts.footprint.capability import why_plain
from experts.simulated.engine import SimulatedEngine
from experts.simulated.process import SimulatedProcess
from experts.spec import Expert
from experts.vllm.lora import LoraEngine
from experts.vllm.modes import full_weights_engine
from experts.vllm_version import InstalledVllm, installed_vllm
from memory_tiers.replicas import family_of, replica_name
from server.config.settings import Settings

EngineFactory = Callable[[str, Settings, Iterable[Expert]], Engine]
"""Makes the engine of a family: its name, the settings, and all experts."""


def engine_of(
    family: str, settings: Settings, experts: Iterable[Expert], nurseries: Nurseries | None = None
) -> Engine:
    """Makes the engine of a family, and starts nothing. ``experts``: all there are, of other families too.
    ``nurseries``: as of ``ServerLife``. Raises CheckpointError, and EngineStartFailed where vLLM is not
    installed."""
    config = settings.families[family]
    if not settings.computes:
        return EngineElsewhere(family)
    if config.mode == "simulated":
        if config.simulation.process or settings.server.process_count > 1:
            return SimulatedProcess(family, config, settings.logs)
        return SimulatedEngine(
            family,
            config.simulation,
            task=config.task,
            devices=config.devices,
            sleep_after_s=config.sleep_after_s,
        )
    check_installed(family, installed_vllm())
    hosts = settings.server.media_hosts
    members = [expert for expert in experts if expert.family == family]
    if config.mode == "lora":
        base = settings.store / base_name(family_of(family, settings.families))
        return LoraEngine(
            family, config, settings.logs, base, members, media_hosts=hosts, nurseries=nurseries
        )
    reason = _why_plain(members) if config.mode == "interleaved" else None
    return full_weights_engine(
        family, config, settings.logs, media_hosts=hosts, nurseries=nurseries, plain_because=reason
    )


def engines_of(
    engine_of: EngineFactory, family: str, settings: Settings, experts: Iterable[Expert]
) -> Iterator[Engine]:
    """Makes the engines of a family, named by ``replica_name``, each with its part of the devices."""
    config, experts = settings.families[family], [*experts]
    if config.engines == 1:
        yield engine_of(family, settings, experts)
        return
    ranks = config.tensor_parallel_size
    for number in range(config.engines):
        name, devices = replica_name(family, number), config.devices[number * ranks : (number + 1) * ranks]
        alone = config.model_copy(update={"devices": devices, "replicas": 1})
        own = settings.model_copy(update={"families": {**settings.families, name: alone}})
        yield engine_of(name, own, [replace(e, family=name) if e.family == family else e for e in experts])


def _why_plain(members: Sequence[Expert]) -> str | None:
    """Why a family's model cannot interleave, by the config.json that all its experts have alike."""
    files = (expert.folder / "config.json" for expert in members)
    return next((why_plain(read_json(file)) for file in files if file.is_file()), None)


def check_installed(family: str, vllm: InstalledVllm | None) -> None:
    """Raises EngineStartFailed."""
    if vllm is None:
        raise EngineStartFailed(
            f"families.{family}: vLLM is not installed: pip install 'composition-of-experts[cpu]', or [cuda] "
            "on a machine with GPUs (docs/start/install.md); mode: simulated needs none"
        )


def check_has_place(engine: Engine, expert: Expert) -> None:
    """Whether ``expert``, which fits its family, can be added to an engine that may run. Raises
    CheckpointError."""
    if isinstance(engine, LoraEngine):
        engine.check_has_place(expert)
