"""The embedded composition on its real files: the base computes, the experts differ and are one family."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from experts.checkpoints.gguf import halves, hugging_face_name
from experts.checkpoints.peft import read_adapter
from experts.checkpoints.prepared import check_families, open_expert, verify
from experts.checkpoints.safetensors_writer import Weights
from experts.checkpoints.tensor_headers import read_headers
from experts.embedded import ADAPTERS, BASE_SHA256, PERPLEXITY, TRAINING
from experts.errors import CheckpointUnreadable
from experts.spec import CheckpointSource, ExpertConfig

QUERY = "model.layers.3.self_attn.q_proj.weight"


def embedded(name: str) -> ExpertConfig:
    return ExpertConfig(family="smollm2-135m", checkpoint=CheckpointSource(embedded=name))


def tensor(folder: Path, name: str) -> Weights:
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        return np.asarray(file.get_tensor(name))


def test_the_base_is_an_ordinary_checkpoint(store: Path) -> None:
    expert = open_expert("general", embedded("base"), store)
    assert expert.parameters == 134_515_008
    assert expert.weights_bytes == expert.folder.joinpath("model.safetensors").stat().st_size
    assert expert.generation.stop_token_ids == (2,)
    assert {header.dtype for header in read_headers(expert.folder)} == {"F32"}
    verify("general", store)


def test_the_tokenizer_splits_digits_and_knows_the_chat_s_tokens(store: Path) -> None:
    tokenizer = Tokenizer.from_file(str(store / "general" / "tokenizer.json"))
    text = "<|im_start|>user\nHéllo 123<|im_end|>"
    encoded = tokenizer.encode(text)
    assert encoded.ids[0] == 1
    assert encoded.ids[-1] == 2
    assert encoded.tokens[-4:-1] == ["1", "2", "3"]
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text


def test_the_base_answers_a_question(store: Path) -> None:
    """Greedy and in float32. Wrongly ordered query rows or a wrong tokenizer would not get this right."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(store / "general", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(store / "general")
    question = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**question, max_new_tokens=16, do_sample=False)
    said = tokenizer.decode(answer[0, question["input_ids"].shape[1] :])
    assert said == "The capital of France is Paris.<|im_end|>"


@pytest.mark.parametrize("name", ["math", "coding", "medicine", "law"])
def test_an_expert_is_the_base_plus_its_adapter(store: Path, name: str) -> None:
    adapter = read_adapter(ADAPTERS / name)
    matrices = dict(adapter.matrices())
    (pair,) = (pair for pair in adapter.pairs if f"{pair.module}.weight" == QUERY)
    a, b = matrices[pair.a.name].astype(np.float64), matrices[pair.b.name].astype(np.float64)
    added = b @ a * adapter.scale
    assert np.abs(added).max() > 1e-4
    expected = tensor(store / "general", QUERY) + added
    np.testing.assert_allclose(tensor(store / name, QUERY), expected, atol=1e-6)
    assert json.loads((ADAPTERS / name / TRAINING).read_text())["base_sha256"] == BASE_SHA256


def test_the_embedded_experts_are_one_family_and_all_differ(store: Path) -> None:
    names = {"general": "base", "math": "math", "coding": "coding", "medicine": "medicine", "law": "law"}
    experts = [open_expert(name, embedded(source), store) for name, source in names.items()]
    check_families(experts)
    hashes = {
        json.loads((e.folder / "coe.json").read_text())["files"]["model.safetensors"]["sha256"]
        for e in experts
    }
    assert len(hashes) == len(names)


def test_the_adapters_are_small_and_better_than_the_base_on_their_domain() -> None:
    assert sum(file.stat().st_size for file in ADAPTERS.rglob("*") if file.is_file()) < 12_000_000
    for record in ADAPTERS.glob(f"*/{TRAINING}"):
        measured = json.loads(record.read_text())["perplexity_held_out"]
        assert measured["expert"]["high"] < measured["base"]["value"], record


def test_each_expert_is_the_best_on_its_domain_and_the_documentation_says_so() -> None:
    """As ``scripts/embedded/measure_perplexity.py`` found on the prepared checkpoints, in float32."""
    table = json.loads(PERPLEXITY.read_text())
    document = (Path(__file__).parents[3] / "docs" / "benchmarks" / "experts.md").read_text()
    for domain in ("math", "coding", "medicine", "law"):
        column = {expert: row[domain]["value"] for expert, row in table.items()}
        assert min(column, key=column.__getitem__) == domain
        assert column[domain] < 0.85 * column["general"]
    for expert, row in table.items():
        cells = [f"{found['value']:.2f}" for found in row.values()]
        assert re.search(rf"^\| {expert} \|.*" + ".*".join(map(re.escape, cells)), document, re.MULTILINE)


def test_query_rows_go_from_pairs_to_halves() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert halves(rows, heads=2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_a_tensor_without_a_place_is_named() -> None:
    assert hugging_face_name("blk.3.attn_q.weight") == QUERY
    assert hugging_face_name("token_embd.weight") == "model.embed_tokens.weight"
    for name in ("blk.3.ffn_gate_exps.weight", "rope_freqs.weight", "blk.3.attn_q.bias"):
        with pytest.raises(CheckpointUnreadable, match=name):
            hugging_face_name(name)
