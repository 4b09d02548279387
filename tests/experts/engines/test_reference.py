"""Canaries of a tiny random Llama: computed beside us, recorded once, right."""

import logging
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from experts.checkpoints.manifest import read_manifest
from experts.checkpoints.prepare import prepare, write_canary
from experts.checkpoints.prepared import open_expert, verify
from experts.engines.recording import record_canaries
from experts.engines.reference import PROMPT_TOKENS, TEXT, TOKENS
from experts.progress import Stage, silent
from experts.spec import Canary, CheckpointSource, ExpertConfig

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def a_llama(folder: Path, seed: int = 0) -> Path:
    """Two layers, untrained, whose words are those of the prompt."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.5,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    words = dict.fromkeys(TEXT.replace(".", " . ").replace(":", " : ").split())
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="The"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def configured(folder: Path) -> ExpertConfig:
    return ExpertConfig(family="tiny", checkpoint=CheckpointSource(folder=folder))


def a_family(tmp_path: Path) -> dict[str, ExpertConfig]:
    """Three prepared experts, of which ``strange`` has an architecture that transformers does not know."""
    configs = {
        name: configured(a_llama(tmp_path / name, seed))
        for seed, name in enumerate(("one", "strange", "two"))
    }
    file = tmp_path / "strange" / "config.json"
    file.write_bytes(orjson.dumps({**orjson.loads(file.read_bytes()), "model_type": "nobody_knows"}))
    for name, config in configs.items():
        assert prepare(name, config, tmp_path / "store").canary is None
    return configs


def test_canaries_are_recorded_once_and_an_expert_that_cannot_be_computed_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configs, store, told = a_family(tmp_path), tmp_path / "store", []

    def progress(stage: Stage, done: int, total: int) -> None:
        told.append((stage, done, total))

    record_canaries(dict.fromkeys(configs, progress), store)
    assert told == [("canary", 0, 1), ("canary", 1, 1)] * 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no canary for strange: " in caplog.text
    assert "nobody_knows" in caplog.text

    canaries = {name: open_expert(name, config, store).canary for name, config in configs.items()}
    assert canaries["strange"] is None
    for name in ("one", "two"):
        check_greedy(canaries[name], tmp_path / name)
        assert prepare(name, configs[name], store).canary == canaries[name], "nothing is done twice"
        verify(name, store)
    record_canaries({"one": progress, "two": progress}, store, available=lambda: 0)
    assert len(told) == 6
    assert len(caplog.records) == 1


def check_greedy(canary: Canary | None, source: Path) -> None:
    assert canary is not None
    assert 10 < len(canary.prompt) <= PROMPT_TOKENS
    assert len(canary.tokens) == TOKENS
    with torch.inference_mode():
        model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
        logits = model(torch.tensor([[*canary.prompt, *canary.tokens]])).logits[0].log_softmax(-1)
    values, tokens = logits[len(canary.prompt) - 1 : -1].max(-1)
    assert tuple(tokens.tolist()) == canary.tokens
    assert values.tolist() == pytest.approx(canary.logprobs, abs=1e-4)


def test_standard_output_is_a_line_for_each_folder_and_nothing_else(tmp_path: Path) -> None:
    folders = [tmp_path / "nowhere", a_llama(tmp_path / "one")]
    command = [sys.executable, "-m", "experts.engines.reference", *map(str, folders)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    nowhere, one = (orjson.loads(line) for line in done.stdout.splitlines())
    assert (list(nowhere), list(one)) == (["error"], ["canary"])


def test_an_expert_too_large_for_memory_has_none_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, store = configured(a_llama(tmp_path / "source")), tmp_path / "store"
    prepare("tiny", config, store)
    record_canaries({"tiny": silent}, store, available=lambda: 2**20)
    assert open_expert("tiny", config, store).canary is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no canary for tiny: in float32 they do not fit" in caplog.text


def test_an_expert_prepared_anew_does_not_keep_what_was_recorded_of_the_old_one(tmp_path: Path) -> None:
    store, canary = tmp_path / "store", Canary((1,), (2, 3, 4), (-1.0, -1.0, -1.0))
    old, new = (configured(a_llama(tmp_path / f"source {seed}", seed)) for seed in (0, 1))
    prepare("tiny", old, store)
    described = read_manifest(store / "tiny")
    write_canary("tiny", store, described, canary)
    assert open_expert("tiny", old, store).canary == canary
    prepare("tiny", new, store)
    write_canary("tiny", store, described, canary)  # computed from the old one, too late
    assert open_expert("tiny", new, store).canary is None
