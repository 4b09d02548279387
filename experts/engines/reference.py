"""Computes canaries with Hugging Face transformers in float32, in a process of its own.

``python -m experts.engines.reference FOLDER...`` prints one line of JSON for each prepared folder, as soon
as it is done: ``{"canary": {"prompt": [...], "tokens": [...], "logprobs": [...]}}`` or ``{"error": "..."}``.
Nothing else goes to standard output.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

TEXT = (
    "The sea was calm that morning. An old man sat at the harbour and told the children how ships are built:"
)
PROMPT_TOKENS = 24
"""Most tokens of ``TEXT`` that are used; the tokenizer decides how many it has."""
TOKENS = 16


def canary(folder: Path) -> dict[str, Any]:
    """Computes a canary greedily, without a cache and with attention as the formula says: slow, a
    reference."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    prompt = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids[:PROMPT_TOKENS]
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    tokens: list[int] = []
    logprobs: list[float] = []
    with torch.inference_mode():
        for _ in range(TOKENS):
            logits = model(torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[0, -1]
            value, token = logits.log_softmax(-1).max(-1)
            tokens.append(int(token))
            logprobs.append(round(float(value), 6))
    if not all(math.isfinite(value) for value in logprobs):
        raise ValueError("the model gives probabilities that are not numbers")
    return {"prompt": prompt, "tokens": tokens, "logprobs": logprobs}


def main(folders: list[str]) -> None:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)  # the lines are read by a program, what libraries print is not for it
        import torch

        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
        for folder in folders:
            try:
                line: dict[str, Any] = {"canary": canary(Path(folder))}
            except Exception as error:  # noqa: BLE001  # is this folder's; the others go on
                line = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
            print(json.dumps(line), file=output, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
