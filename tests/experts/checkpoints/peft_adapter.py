"""A small adapter in PEFT's layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

MODULE = "model.layers.0.q_proj"
A, B = (f"base_model.model.{MODULE}.lora_{which}.weight" for which in "AB")


def an_adapter(
    folder: Path,
    tensors: dict[str, Any] | None = None,
    a: tuple[int, ...] = (2, 3),
    b: tuple[int, ...] = (4, 2),
    **config: Any,
) -> Path:
    """Makes one of rank 2 for a module of 3 inputs and 4 outputs."""
    folder.mkdir()
    made = {A: np.ones(a, np.float32), B: np.ones(b, np.float32)}
    save_file(made if tensors is None else tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps({"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]} | config)
    )
    return folder
