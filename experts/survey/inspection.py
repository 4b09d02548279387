"""Inspects one checkpoint by its headers and small files: what it is, or why it cannot be served."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from experts.checkpoints.fingerprint import Traits, read_json, tokenizer
from experts.checkpoints.peft import CONFIG, read_adapter
from experts.checkpoints.prepared import chat_template, generation
from experts.checkpoints.sentence_modules import FILE as MODULES
from experts.checkpoints.sentence_modules import check_modules
from experts.checkpoints.tensor_headers import TensorHeader, read_headers
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable
from experts.footprint.capability import why_plain
from experts.spec import Capability, GenerationConfig, Task
from experts.survey.candidate import Adapter, FullWeights, Parsers, Place
from experts.survey.declarations import check_sizes, check_template
from experts.survey.parsers import guessed
from experts.survey.shards import check_index_tensors, check_pieces, check_shapes
from experts.survey.view import View
from experts.survey.vllm_support import VllmSupport

OTHER_FORMATS = {"*.bin": "PyTorch's", "*.pth": "PyTorch's", "*.pt": "PyTorch's", "*.gguf": "llama.cpp's"}


def inspected(place: Place, view: View, support: VllmSupport | None, platform: str) -> FullWeights | Adapter:
    """Says what a view is of. ``support``: of the installed vLLM; None: there is none to ask. ``platform``:
    cpu or cuda. Raises CheckpointError, whose message says what is wrong and what to do."""
    folder = view.folder
    if (folder / CONFIG).is_file() and not (folder / "config.json").is_file():
        return _adapter(place, folder)
    if (folder / "model_index.json").is_file():
        raise CheckpointMismatch("model_index.json: it makes images; experts write text or give its vector")
    if (folder / CONFIG).is_file() and not any(folder.glob("model*.safetensors")):
        return _adapter(place, folder)
    return _full_weights(place, view, support, platform)


def _adapter(place: Place, folder: Path) -> Adapter:
    fields = read_json(folder / CONFIG)
    kind = str(fields.get("peft_type", "LORA"))
    if kind != "LORA":
        raise CheckpointMismatch(
            f"{CONFIG}: peft_type {kind}: vLLM serves LoRA alone; merge it into its base"
        )
    weights = read_adapter(folder)
    weights.check_finite()
    own = folder / "tokenizer.json"
    base = str(fields.get("base_model_name_or_path") or "")
    return Adapter(place, folder, weights, base, tokenizer(folder) if own.is_file() else None)


def _full_weights(place: Place, view: View, support: VllmSupport | None, platform: str) -> FullWeights:
    folder = view.folder
    config = read_json(folder / "config.json")
    if (folder / "tokenizer_config.json").is_file():
        read_json(folder / "tokenizer_config.json")
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointMissing(
            "tokenizer.json is missing; AutoTokenizer.from_pretrained(...).save_pretrained(...) writes it"
        )
    headers = view.headers if view.headers is not None else _headers(place, folder)
    check_modules(folder)
    check_sizes(config)
    check_shapes(config, headers)
    _check_tokenizer(folder, config)
    generation(folder, GenerationConfig())
    name = _architecture(config)
    task = _task(folder, name, support)
    template = chat_template(folder, None, needed=False) if task == "generate" else ""
    check_template(template)
    kind = str(config.get("model_type", ""))
    parsers = guessed(template, kind, support) if task == "generate" else Parsers()
    method = _quantisation(config, support, platform)
    plain = why_plain(config)
    if plain is None and method is not None:
        plain = "nobody has run experts in turns on quantised weights"
    return FullWeights(
        place, folder, Traits.of(folder, headers), task, parsers,
        _capabilities(config, parsers, support, name), plain, method, bool(template) or task == "embed",
    )  # fmt: skip


def _headers(place: Place, folder: Path) -> Sequence[TensorHeader]:
    if not any(folder.glob("*.safetensors")):
        source = place.source.folder
        for pattern, whose in OTHER_FORMATS.items():
            if source is not None and any(source.glob(pattern)):
                raise CheckpointMissing(f"its weights are in {whose} format alone; save them as safetensors")
        raise CheckpointMissing("there are no weights (*.safetensors) in it; fetch them")
    check_pieces(folder)
    headers = read_headers(folder)
    if not headers:
        raise CheckpointUnreadable("there is no tensor in its *.safetensors; fetch them again")
    check_index_tensors(folder, headers)
    return headers


def _check_tokenizer(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises CheckpointUnreadable, CheckpointMismatch."""
    try:
        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)
    except Exception as error:  # noqa: BLE001  the library raises nothing narrower
        raise CheckpointUnreadable(f"tokenizer.json is not a tokenizer: {error}") from None
    rows = {**config, **(config.get("text_config") or {})}.get("vocab_size")
    largest = max(vocabulary.values(), default=-1)
    if isinstance(rows, int) and largest >= rows:
        raise CheckpointMismatch(
            f"tokenizer.json has ids up to {largest}, and config.json a vocab_size of {rows}: the tokenizer "
            "is another model's, or the embedding was not resized"
        )


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise CheckpointMismatch("config.json: architectures is missing; save the model with transformers")
    return names[0]


def _task(folder: Path, name: str, support: VllmSupport | None) -> Task:
    """Raises CheckpointMismatch for what is neither of the two."""
    config = read_json(folder / "config.json")
    if config.get("is_encoder_decoder"):
        raise CheckpointMismatch(f"{name} has an encoder and a decoder; experts are decoders, or embed")
    if support is None:
        return "embed" if (folder / MODULES).is_file() or not name.endswith("LM") else "generate"
    writes = name in support.generating or name in support.seeing
    if (folder / MODULES).is_file() and (writes or name in support.embedding):
        return "embed"
    if writes:
        return "generate"
    if name in support.embedding:
        return "embed"
    if name in support.judging:
        raise CheckpointMismatch(f"{name} classifies or ranks texts; experts write text or give its vector")
    raise CheckpointMismatch(f"the installed vLLM has no architecture {name}")


def _capabilities(
    config: Mapping[str, Any], parsers: Parsers, support: VllmSupport | None, name: str
) -> tuple[Capability, ...]:
    found: list[Capability] = ["tools"] if parsers.tool else []
    if support is None or name in support.seeing:
        found += ["images"] if "vision_config" in config else []
        found += ["audio"] if "audio_config" in config else []
    return tuple(found)


def _quantisation(config: Mapping[str, Any], support: VllmSupport | None, platform: str) -> str | None:
    """Raises CheckpointMismatch for a method that cannot be served here."""
    given = config.get("quantization_config")
    if not given:
        return None
    if not isinstance(given, dict):
        raise CheckpointMismatch(
            f"config.json: quantization_config is {given!r}, and not an object with a quant_method"
        )
    method = str(given.get("quant_method", ""))
    if support is not None and not support.quantises(method, platform):
        where = "on CPU" if method in support.quantisation else "at all"
        raise CheckpointMismatch(
            f"quantised by {method or 'an unnamed method'}, which vLLM does not serve {where}; take the "
            "model as it was before"
        )
    return method
