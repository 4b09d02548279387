"""Tells models whose weights cannot take turns in one engine yet, from config.json alone."""

from collections.abc import Mapping
from typing import Any

from experts.footprint.architecture import NOT_ATTENTION

_STATE_SPACES = frozenset({"mamba", "mamba2", "falcon_mamba", "bamba", "zamba2", "nemotron_h", "jamba"})
_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")


def why_plain(config: Mapping[str, Any]) -> str | None:
    """Returns why experts of this config.json are served one at a time (mode plain); None where they may
    interleave. Each reason was found by reading vLLM 0.32, or by running it on a CPU."""
    text = {**config, **(config.get("text_config") or {})}
    if text.get("kv_lora_rank"):
        return "latent attention (MLA) derives matrices from weights that the next expert would compute with"
    if config.get("quantization_config") and any(int(text.get(name) or 0) > 1 for name in _EXPERT_COUNTS):
        return "a quantised mixture of experts shares its method's state with the next expert"
    if "vision_config" in config or "audio_config" in config:
        return "images and audio are kept encoded without the expert that encoded them"
    kinds = {*(text.get("layer_types") or ()), *(text.get("layers_block_type") or ())}
    if kinds & NOT_ATTENTION or str(text.get("model_type")) in _STATE_SPACES:
        return "state-space layers keep state beside weights that no image carries"
    return None
