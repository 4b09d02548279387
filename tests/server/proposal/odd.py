"""Odd inputs of ``coe init``: what people have in folders that they call checkpoints."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.experts.survey.tiny import a_llama, an_adapter, edit_json, write_json


def missing_config(folder: Path) -> None:
    (a_llama(folder) / "config.json").unlink()


def config_is_no_json(folder: Path) -> None:
    (a_llama(folder) / "config.json").write_text("{'model_type': 'llama'}")


def no_architectures(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", architectures=None)


def unknown_architecture(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", architectures=["WonderForCausalLM"])


def no_bytes(folder: Path) -> None:
    (a_llama(folder) / "model.safetensors").write_bytes(b"")


def cut_weights(folder: Path) -> None:
    file = a_llama(folder) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def large_file_pointer(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (a_llama(folder) / "model.safetensors").write_text(pointer)


def pytorch_weights(folder: Path) -> None:
    (a_llama(folder) / "model.safetensors").rename(folder / "pytorch_model.bin")


def in_pieces(folder: Path) -> None:
    file = a_llama(folder) / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for name, part in parts.items():
        save_file({tensor: tensors[tensor] for tensor in part}, folder / name)
    where = {tensor: name for name, part in parts.items() for tensor in part}
    write_json(folder / "model.safetensors.index.json", {"weight_map": where})


def missing_piece(folder: Path) -> None:
    in_pieces(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def pieces_of_two(folder: Path) -> None:
    in_pieces(folder)
    (folder / "model-00002-of-00002.safetensors").rename(folder / "model-00002-of-00003.safetensors")
    (folder / "model.safetensors.index.json").unlink()


def piece_of_another(folder: Path) -> None:
    in_pieces(folder)
    save_file({"other.weight": np.zeros(4, np.float32)}, folder / "model-00002-of-00002.safetensors")


def missing_layer(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", num_hidden_layers=3)


def another_width(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", hidden_size=96)


def wrong_tokenizer(folder: Path) -> None:
    a_llama(folder, added=400)


def broken_tokenizer(folder: Path) -> None:
    (a_llama(folder) / "tokenizer.json").write_text("{}")


def no_tokenizer(folder: Path) -> None:
    (a_llama(folder) / "tokenizer.json").unlink()


def no_template(folder: Path) -> None:
    a_llama(folder, template=None)


def bad_sampling_defaults(folder: Path) -> None:
    edit_json(a_llama(folder) / "generation_config.json", temperature=-1)


def quantised_by_nothing_known(folder: Path) -> None:
    edit_json(
        a_llama(folder) / "config.json", quantization_config={"quant_method": "bitsandbytes", "bits": 4}
    )


def quantised(folder: Path) -> None:
    bits = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    edit_json(a_llama(folder) / "config.json", quantization_config=bits)


def mixture(folder: Path) -> None:
    a_llama(folder, architectures=["MixtralForCausalLM"], num_local_experts=4, num_experts_per_tok=2)


def embedding_model(folder: Path) -> None:
    a_llama(folder, template=None, architectures=["LlamaModel"])
    write_json(
        folder / "modules.json",
        [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}],
    )
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})


def missing_module(folder: Path) -> None:
    embedding_model(folder)
    shutil.rmtree(folder / "1_Pooling")


def classifier(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", architectures=["BertForSequenceClassification"])


def translator(folder: Path) -> None:
    edit_json(
        a_llama(folder) / "config.json", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True
    )


def template_of_no_jinja(folder: Path) -> None:
    a_llama(folder, template="{% for message in messages %}{{ message.content }}")


def template_with_tags_of_transformers(folder: Path) -> None:
    marked = (
        "{% generation %}{{ message['content'] }}{% endgeneration %}{% if loop.last %}{% break %}{% endif %}"
    )
    a_llama(folder, template=f"{{% for message in messages %}}{marked}{{% endfor %}}")


def size_of_text(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", hidden_size="64")


def no_heads(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", num_attention_heads=0)


def negative_context(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", max_position_embeddings=-1)


def rows_and_a_half(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", vocab_size=320.5)


def method_without_its_object(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", quantization_config="awq")


def byte_order_mark(folder: Path) -> None:
    file = a_llama(folder) / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())


def another_encoding(folder: Path) -> None:
    (a_llama(folder) / "tokenizer_config.json").write_bytes('{"made_by": "André"}'.encode("latin-1"))


def link_to_nowhere(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to("nowhere")


def images(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})


def adapter_without_base(folder: Path) -> None:
    an_adapter(folder, "meta-llama/Llama-3.1-8B")


def adapter_of_more(folder: Path) -> None:
    an_adapter(folder, "", use_dora=True)


def adapter_of_nothing_named(folder: Path) -> None:
    edit_json(an_adapter(folder, "") / "adapter_config.json", target_modules=None)


def prefix_tuning(folder: Path) -> None:
    an_adapter(folder, "", peft_type="PREFIX_TUNING")


def gguf(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")


def empty(folder: Path) -> None:
    folder.mkdir(parents=True)


def folder_of_folders(folder: Path) -> None:
    a_llama(folder / "first" / "checkpoint-500", 1)
    a_llama(folder / "second" / "checkpoint-500", 2)


def a_cache(folder: Path) -> None:
    a_llama(folder / "models--house--tiny" / "snapshots" / ("0" * 40))


def dangling_link(folder: Path) -> None:
    a_llama(folder)
    (folder / "model.safetensors").unlink()
    os.symlink(folder / "nowhere", folder / "model.safetensors")


def second_copy_in_its_makers_format(folder: Path) -> None:
    shutil.copyfile(a_llama(folder) / "model.safetensors", folder / "consolidated.safetensors")


def no_context(folder: Path) -> None:
    edit_json(a_llama(folder) / "config.json", max_position_embeddings=None)


def config_of_a_list(folder: Path) -> None:
    (a_llama(folder) / "config.json").write_text(json.dumps([1]))


SERVED: Mapping[str, Callable[[Path], object]] = {
    each.__name__: each
    for each in (in_pieces, quantised, mixture, embedding_model, folder_of_folders, a_cache,
                 second_copy_in_its_makers_format, no_context, template_with_tags_of_transformers)
}  # fmt: skip
"""Checkpoints that are odd, and can be served."""
LEFT_OUT: Mapping[Callable[[Path], object], str] = {
    missing_config: "config.json: no such file",
    config_is_no_json: "config.json: not JSON",
    config_of_a_list: "config.json: not a JSON object",
    no_architectures: "config.json: architectures is missing",
    unknown_architecture: "has no architecture WonderForCausalLM",
    no_bytes: "model.safetensors: not a whole safetensors file",
    cut_weights: "model.safetensors: not a whole safetensors file",
    large_file_pointer: "model.safetensors: not a whole safetensors file",
    pytorch_weights: "in PyTorch's format alone; save them as safetensors",
    missing_piece: "piece 2 of 2 of its weights is missing",
    pieces_of_two: "pieces of checkpoints of 2 and 3",
    piece_of_another: "is in model.safetensors.index.json and in no file",
    missing_layer: "none of layer 2",
    another_width: "config.json has hidden_size 96",
    wrong_tokenizer: "the tokenizer is another model's",
    broken_tokenizer: "tokenizer.json is not a tokenizer",
    no_tokenizer: "tokenizer.json is missing",
    no_template: "it has no chat template",
    bad_sampling_defaults: "generation_config.json: temperature",
    quantised_by_nothing_known: "quantised by bitsandbytes",
    missing_module: "modules.json names 1_Pooling",
    classifier: "classifies or ranks texts",
    translator: "an encoder and a decoder",
    template_of_no_jinja: "its chat template is no Jinja: line 1: Unexpected end of template",
    size_of_text: "config.json: hidden_size is '64', and not a whole number from 1",
    no_heads: "config.json: num_attention_heads is 0, and not a whole number from 1",
    negative_context: "config.json: max_position_embeddings is -1, and not a whole number from 1",
    rows_and_a_half: "config.json: vocab_size is 320.5, and not a whole number from 1",
    method_without_its_object: "config.json: quantization_config is 'awq', and not an object",
    byte_order_mark: "config.json: not JSON: Unexpected UTF-8 BOM",
    another_encoding: "tokenizer_config.json: not JSON: 'utf-8' codec can't decode",
    link_to_nowhere: "is a link to nowhere, which is not there",
    images: "it makes images",
    adapter_without_base: "is an adapter without its base (meta-llama/Llama-3.1-8B); name that too",
    adapter_of_more: "use_dora",
    adapter_of_nothing_named: "adapter_config.json: target_modules: Field required",
    prefix_tuning: "PREFIX_TUNING",
    gguf: "GGUF is llama.cpp's format",
    empty: "there is no checkpoint in it",
    dangling_link: "there are no weights",
}
"""Checkpoints that cannot be served, each with a part of the reason that is said."""
