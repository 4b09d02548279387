"""Chooses the engine of a family of full weights."""

import logging
from collections.abc import Sequence
from pathlib import Path

from experts.spec import FamilyConfig
from experts.vllm.embedding import EmbedEngine
from experts.vllm.engine import VllmEngine
from experts.vllm.interleaved import InterleavedEngine
from experts.vllm.plain import PlainEngine
from experts.vllm_version import VERIFIED, InstalledVllm, installed_vllm

logger = logging.getLogger(__name__)


def full_weights_engine(
    family: str,
    config: FamilyConfig,
    log_folder: Path,
    vllm: InstalledVllm | None = None,
    native_bfloat16: bool | None = None,
    media_hosts: Sequence[str] = (),
) -> VllmEngine:
    """Makes the engine, and starts nothing; arguments as of ``VllmEngine``. Where interleaving was not
    verified on the installed vLLM, a family that interleaves falls back to plain mode, with a warning."""
    vllm = vllm or installed_vllm()
    kind: type[VllmEngine] = InterleavedEngine
    if config.task == "embed":
        kind = EmbedEngine
    elif config.mode == "plain":
        kind = PlainEngine
    elif vllm is not None and not vllm.verified:
        kind = PlainEngine
        logger.warning(
            "family %s: vLLM %s is installed, interleaving is verified on %s*; "
            "falling back to plain mode, which holds one expert at a time",
            family, vllm.version, VERIFIED,
        )  # fmt: skip
    return kind(family, config, log_folder, vllm, native_bfloat16, media_hosts)
