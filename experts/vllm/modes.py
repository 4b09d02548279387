"""Which engine serves a family of full weights."""

import logging
from collections.abc import Sequence
from pathlib import Path

from experts.spec import FamilyConfig
from experts.vllm.command import VERIFIED, InstalledVllm, installed_vllm
from experts.vllm.embedding import EmbedEngine
from experts.vllm.engine import VllmEngine
from experts.vllm.interleaved import InterleavedEngine
from experts.vllm.plain import PlainEngine

logger = logging.getLogger(__name__)


def full_weights_engine(
    family: str,
    config: FamilyConfig,
    log_folder: Path,
    vllm: InstalledVllm | None = None,
    native_bfloat16: bool | None = None,
    media_hosts: Sequence[str] = (),
) -> VllmEngine:
    """Starts nothing; arguments as of ``VllmEngine``. Where the installed vLLM is not one that interleaving
    was verified on, a family that interleaves falls back to plain mode, and that is said."""
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
