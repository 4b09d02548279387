"""Architectures of some public models, from their published config.json, for plans before a fetch."""

from collections.abc import Mapping
from dataclasses import replace

from experts.footprint.architecture import Architecture

SMOLLM2_135M = Architecture("llama", 30, 576, 1536, 9, 3, 64, 49_152, 8_192, tied=True)
QWEN2_7B = Architecture("qwen2", 28, 3584, 18_944, 28, 4, 128, 152_064, 32_768, biased=True)
QWEN2_72B = Architecture("qwen2", 80, 8192, 29_568, 64, 8, 128, 152_064, 32_768, biased=True)
GEMMA_2_9B = Architecture(
    "gemma2", 42, 3584, 14_336, 16, 8, 256, 256_000, 8_192, tied=True, norms_per_layer=4
)
GEMMA_2_27B = Architecture(
    "gemma2", 46, 4608, 36_864, 32, 16, 128, 256_000, 8_192, tied=True, norms_per_layer=4
)
LLAMA_3_1_8B = Architecture("llama", 32, 4096, 14_336, 32, 8, 128, 128_256, 131_072)
LLAMA_3_1_70B = Architecture("llama", 80, 8192, 28_672, 64, 8, 128, 128_256, 131_072)
MISTRAL_7B = Architecture("mistral", 32, 4096, 14_336, 32, 8, 128, 32_768, 32_768)

PUBLISHED: Mapping[str, Architecture] = {
    "Qwen/Qwen2-7B-Instruct": QWEN2_7B,
    "Qwen/Qwen2-72B-Instruct": QWEN2_72B,
    "google/gemma-2-9b-it": GEMMA_2_9B,
    "google/gemma-2-27b-it": GEMMA_2_27B,
    "meta-llama/Llama-3.1-8B-Instruct": LLAMA_3_1_8B,
    "meta-llama/Llama-3.1-70B-Instruct": LLAMA_3_1_70B,
    "mistralai/Mistral-7B-Instruct-v0.3": MISTRAL_7B,
    "neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8": replace(LLAMA_3_1_70B, weight_bits=8),
    "neuralmagic/Mistral-7B-Instruct-v0.3-FP8": replace(MISTRAL_7B, weight_bits=8),
}
"""Architectures by the repository's name on Hugging Face. That the shapes are right is tested by the number
of parameters that the hub states for each."""
EMBEDDED = SMOLLM2_135M
"""The architecture of every expert that ships."""
