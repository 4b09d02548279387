"""Footprints of models on a GPU agree with the figures that their makers publish."""

import json
from pathlib import Path

import pytest

from experts.checkpoints.tensor_headers import TensorHeader
from experts.errors import CheckpointMissing, CheckpointUnreadable
from experts.footprint.architecture import Architecture
from experts.footprint.capability import why_plain
from experts.footprint.find import find_model
from experts.footprint.kv_cache import kv_bytes_per_token
from experts.footprint.published import EMBEDDED, PUBLISHED
from experts.footprint.run_time import activation_bytes, batched_tokens, graph_bytes
from experts.footprint.weights import active_parameters, header_shard_bytes, parameters, shard_bytes
from experts.spec import CheckpointSource

MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "num_local_experts": 8,
    "num_experts_per_tok": 2, "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("Qwen/Qwen2-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2-72B-Instruct", 72_706_203_648),
        ("google/gemma-2-9b-it", 9_241_705_984),
        ("google/gemma-2-27b-it", 27_227_128_320),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
    ],
)
def test_a_published_architecture_has_the_parameters_that_the_hub_states(name: str, count: int) -> None:
    assert parameters(PUBLISHED[name]) == count


def test_the_embedded_base_has_its_parameters() -> None:
    assert parameters(EMBEDDED) == 134_515_008


def test_a_mixture_is_in_memory_whole_and_computes_with_a_part() -> None:
    mixtral = Architecture.of(MIXTRAL, "config.json")
    assert parameters(mixtral) == 46_702_792_704
    assert active_parameters(mixtral) == 12_879_925_248


def test_shards_are_even_but_for_norms_and_padding() -> None:
    llama = PUBLISHED["meta-llama/Llama-3.1-70B-Instruct"]
    whole, quarter = shard_bytes(llama, 1, 2), shard_bytes(llama, 4, 2)
    assert whole == 2 * parameters(llama)
    norms = 2 * 8192 * 161
    assert 4 * quarter == whole + 3 * norms


def test_kv_heads_are_copied_where_there_are_fewer_than_gpus() -> None:
    llama = PUBLISHED["meta-llama/Llama-3.1-8B-Instruct"]
    assert kv_bytes_per_token(llama, 1) == 131_072
    assert kv_bytes_per_token(llama, 8) == kv_bytes_per_token(llama, 16) == 131_072 // 8
    assert kv_bytes_per_token(PUBLISHED["google/gemma-2-27b-it"], 2) == 2 * 46 * 8 * 128 * 2


def test_latent_attention_keeps_one_vector_a_layer_on_every_gpu() -> None:
    config = {**MIXTRAL, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    latent = Architecture.of(config, "config.json")
    assert kv_bytes_per_token(latent, 1) == kv_bytes_per_token(latent, 8) == 32 * 576 * 2


def test_the_vocabulary_is_padded_to_64() -> None:
    odd = Architecture("llama", 1, 64, 64, 1, 1, 64, 65, 1024)
    even = Architecture("llama", 1, 64, 64, 1, 1, 64, 128, 1024)
    assert shard_bytes(odd, 1, 2) == shard_bytes(even, 1, 2)


def test_quantised_headers_count_as_they_are_and_others_in_the_computing_type() -> None:
    wide = [TensorHeader("a.weight", "F32", (100, 10)), TensorHeader("norm", "F32", (10,))]
    assert header_shard_bytes(wide, 1, 2) == 2020
    assert header_shard_bytes(wide, 2, 2) == 1020, "a vector is on every GPU"
    packed = [TensorHeader("a.qweight", "I32", (100, 10)), TensorHeader("a.scales", "F16", (10, 10))]
    assert header_shard_bytes(packed, 1, 2) == 4000 + 200


def test_eight_bits_halve_the_linear_layers_alone() -> None:
    whole = shard_bytes(PUBLISHED["mistralai/Mistral-7B-Instruct-v0.3"], 1, 2)
    eight = shard_bytes(PUBLISHED["neuralmagic/Mistral-7B-Instruct-v0.3-FP8"], 1, 2)
    assert whole - eight == 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)


def test_the_step_of_a_large_gpu_is_longer_and_its_peak_higher() -> None:
    llama = PUBLISHED["meta-llama/Llama-3.1-8B-Instruct"]
    large, small = batched_tokens(80 * 2**30, 8192, 64), batched_tokens(24 * 10**9, 8192, 64)
    assert (large, small) == (8192, 2048)
    assert batched_tokens(80 * 2**30, 512, 4) == 2048, "no longer than all sequences together"
    assert batched_tokens(80 * 2**30, 8192, 64, given=512) == 512
    assert activation_bytes(llama, 1, large, 64) == 8192 * (3 * 4096 + 3 * 14336) * 2
    assert activation_bytes(llama, 1, 2048, 1024) == 1024 * 128_256 * 22, "the sampler's peak"
    assert graph_bytes(llama, 64) == 19 * 32 * 300_000


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"kv_lora_rank": 512}, "latent"),
        ({"num_local_experts": 8, "quantization_config": {"quant_method": "fp8"}}, "quantised"),
        ({"vision_config": {}, "text_config": {"model_type": "llama"}}, "encoded"),
        ({"layer_types": ["mamba", "full_attention"]}, "state-space"),
        ({"model_type": "bamba"}, "state-space"),
    ],
)
def test_models_whose_state_would_mix_are_served_plain(config: dict[str, object], word: str) -> None:
    assert word in (why_plain(config) or "")


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama"},
        {"model_type": "mixtral", "num_local_experts": 8},
        {"model_type": "llama", "quantization_config": {"quant_method": "fp8"}},
        {"model_type": "gemma2", "layer_types": ["sliding_attention", "full_attention"]},
    ],
)
def test_others_interleave(config: dict[str, object]) -> None:
    assert why_plain(config) is None


def test_four_bits_come_with_scales_and_zeros() -> None:
    config = {**MIXTRAL, "quantization_config": {"quant_method": "awq", "bits": 4}}
    assert Architecture.of(config, "config.json").weight_bits == 4 + 20 / 128
    groups = {"config_groups": {"group_0": {"weights": {"num_bits": 8}}}}
    assert Architecture.of({**MIXTRAL, "quantization_config": groups}, "config.json").weight_bits == 8


def test_older_names_of_the_sizes_are_known() -> None:
    config = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
    gpt2 = Architecture.of({**config, "vocab_size": 50257, "n_inner": None}, "config.json")
    assert (gpt2.hidden, gpt2.layers, gpt2.heads, gpt2.context) == (768, 12, 12, 1024)
    assert gpt2.intermediate == 4 * 768
    assert kv_bytes_per_token(gpt2, 1) == 2 * 12 * 768 * 2


def test_a_config_without_its_sizes_says_which_is_missing() -> None:
    with pytest.raises(CheckpointUnreadable, match=r"here: what memory .* 'hidden_size' is missing"):
        Architecture.of({"model_type": "llama"}, "here")


def test_the_model_is_found_in_any_of_the_familys_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MIXTRAL))
    sources = [CheckpointSource(folder=Path("/none")), CheckpointSource(folder=tmp_path)]
    found = find_model([Path("/nowhere")], sources, "f")
    assert found.architecture.model_type == "mixtral"
    assert found.headers == ()


def test_a_published_name_stands_in_for_files_that_are_not_there() -> None:
    sources = [
        CheckpointSource(folder=Path("/none")),
        CheckpointSource(huggingface="google/gemma-2-9b-it"),
    ]
    assert find_model([], sources, "f").architecture == PUBLISHED["google/gemma-2-9b-it"]


def test_what_is_not_known_is_said_by_its_file() -> None:
    with pytest.raises(CheckpointMissing, match=r"family f: a plan needs /none/config\.json"):
        find_model([], [CheckpointSource(folder=Path("/none"))], "f")
