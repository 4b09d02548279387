"""The configuration: strict, and a mistake in it is one line that says what to write instead."""

from pathlib import Path

import pytest

from server.config.settings import SettingsError, load

MINIMAL = """
tiers: {device: 1GB, host: 1GB}
families: {small: {mode: simulated}}
experts:
  law: {family: small, checkpoint: {embedded: law}}
"""


def problem(folder: Path, text: str) -> str:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(file)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


def test_a_minimal_configuration_loads_and_its_paths_count_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(MINIMAL + "state: kept\ncompositions: {coe: {artifact: made}}\n", encoding="utf-8")
    settings = load(file)
    assert settings.state == tmp_path / "kept"
    assert settings.compositions["coe"].artifact == tmp_path / "made"
    assert settings.tiers.device == 10**9


def test_a_misspelt_field_is_named_with_the_closest_valid_one(tmp_path: Path) -> None:
    text = MINIMAL.replace("checkpoint: {", "checkpoit: {")
    assert problem(tmp_path, text).startswith(
        "experts.law.checkpoit: unknown field; did you mean 'checkpoint'?"
    )


def test_a_misspelt_field_deep_in_the_tree_is_named_too(tmp_path: Path) -> None:
    text = MINIMAL.replace("mode: simulated", "mode: simulated, simulation: {tokens_per_sec: 5}")
    message = "families.small.simulation.tokens_per_sec: unknown field; did you mean 'tokens_per_s'?"
    assert problem(tmp_path, text) == message


def test_an_unknown_top_level_field_lists_the_valid_ones(tmp_path: Path) -> None:
    assert problem(tmp_path, MINIMAL + "zzz: 1\n").startswith("zzz: unknown field; valid fields: state, ")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    text = MINIMAL.replace("tiers: {device: 1GB, host: 1GB}", "")
    assert problem(tmp_path, text) == "tiers: missing; this field is required"


def test_an_expert_of_an_undefined_family_is_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("family: small", "family: smal")
    assert problem(tmp_path, text) == "experts.law.family: 'smal' is not defined; did you mean 'small'?"


def test_tools_without_a_parser_for_their_calls_are_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("{mode: simulated}", "{}").replace("small, ", "small, capabilities: [tools], ")
    assert problem(tmp_path, text).endswith(
        "experts.law.capabilities: tools need families.small.tool_parser; set it, or leave tools out"
    )
    (tmp_path / "config.yaml").write_text(text.replace("small: {}", "small: {tool_parser: hermes}"))
    assert load(tmp_path / "config.yaml").families["small"].parses_tools


def test_an_admin_key_that_clients_have_is_refused(tmp_path: Path) -> None:
    text = MINIMAL + "server: {api_keys: [a, b], admin_key: b}\n"
    says = "server: admin_key is one of api_keys, and no API key may give orders; choose another"
    assert problem(tmp_path, text) == says


@pytest.mark.parametrize("field", ["admin_key", "metrics_key"])
@pytest.mark.parametrize("key", ["", "  ", "\\t", "key ", " key"])
def test_a_key_that_is_empty_or_that_nobody_could_send_is_refused(
    tmp_path: Path, field: str, key: str
) -> None:
    says = f"server.{field}: a key must not be empty, nor begin or end with white space"
    assert problem(tmp_path, MINIMAL + f'server: {{{field}: "{key}"}}\n').startswith(says)
    says = says.replace(field, "api_keys.0")
    assert problem(tmp_path, MINIMAL + f'server: {{api_keys: ["{key}"]}}\n').startswith(says)
    says = says.replace("api_keys.0", "api_keys.0.key")
    assert problem(tmp_path, MINIMAL + f'server: {{api_keys: [{{key: "{key}"}}]}}\n').startswith(says)


EMBEDDING = MINIMAL.replace("families: {", "families: {vectors: {mode: simulated, task: embed}, ").replace(
    "experts:\n", "experts:\n  e5: {family: vectors, checkpoint: {embedded: base}}\n"
)


def test_a_family_that_embeds_says_in_which_mode(tmp_path: Path) -> None:
    says = (
        "families.vectors: task embed goes with mode plain, and not with interleaved: vLLM's pooling runner "
        "does not tell the engine which expert a request is for; write mode: plain"
    )
    assert problem(tmp_path, EMBEDDING.replace("mode: simulated, task", "task")) == says
    (tmp_path / "config.yaml").write_text(EMBEDDING.replace("mode: simulated, task", "mode: plain, task"))
    settings = load(tmp_path / "config.yaml")
    assert (settings.task_of("e5"), settings.generating) == ("embed", frozenset({"law"}))


@pytest.mark.parametrize("parser", ["tool_parser", "reasoning_parser"])
def test_a_family_that_embeds_parses_nothing(tmp_path: Path, parser: str) -> None:
    text = EMBEDDING.replace("task: embed", f"task: embed, {parser}: hermes")
    says = "an embedding model writes nothing to parse; leave out tool_parser and reasoning_parser"
    assert problem(tmp_path, text) == f"families.vectors: {says}"


@pytest.mark.parametrize(
    ("field", "where"), [("mapping: {law: e5}", "mapping.law"), ("fallback: e5", "fallback")]
)
def test_an_embedding_model_answers_for_no_composition(tmp_path: Path, field: str, where: str) -> None:
    text = EMBEDDING + f"compositions: {{coe: {{artifact: a, {field}}}}}\n"
    says = "'e5' gives embeddings and answers no questions; name an expert that generates"
    assert problem(tmp_path, text) == f"compositions.coe.{where}: {says}"


def test_a_mapping_to_an_undefined_expert_is_refused(tmp_path: Path) -> None:
    text = MINIMAL + "compositions: {coe: {artifact: a, mapping: {law: laww}}}\n"
    message = "compositions.coe.mapping.law: 'laww' is not defined; did you mean 'law'?"
    assert problem(tmp_path, text) == message


def test_two_checkpoint_sources_are_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("{embedded: law}", "{embedded: law, folder: /x}")
    message = "experts.law.checkpoint: give exactly one of folder, huggingface, url, embedded"
    assert problem(tmp_path, text) == message


def test_a_base_belongs_to_mode_lora_and_only_to_it(tmp_path: Path) -> None:
    says = "families.small: mode lora needs a base, and no other mode has one"
    assert problem(tmp_path, MINIMAL.replace("mode: simulated", "mode: lora")) == says
    assert problem(tmp_path, MINIMAL.replace("simulated", "plain, base: {embedded: base}")) == says


def test_the_bases_place_in_the_store_is_no_experts_name(tmp_path: Path) -> None:
    text = MINIMAL.replace("mode: simulated", "mode: lora, base: {folder: b}").replace("law:", "small.base:")
    assert problem(tmp_path, text) == "experts.small.base: the base of family small has this name"


def test_a_bases_folder_counts_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(MINIMAL.replace("mode: simulated", "mode: lora, base: {folder: b}"), encoding="utf-8")
    base = load(file).base_of("law")
    assert base is not None
    assert base.folder == tmp_path / "b"


def test_a_value_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    assert problem(tmp_path, MINIMAL + "server: {port: high}\n").startswith("server.port: ")


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "just words"])
def test_what_is_not_a_mapping_is_one_line(tmp_path: Path, text: str) -> None:
    assert problem(tmp_path, text)


def test_a_budget_is_a_size_or_auto(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(MINIMAL.replace("1GB, host: 1GB", "auto, host: auto"), encoding="utf-8")
    assert (load(file).tiers.device, load(file).tiers.host) == ("auto", "auto")
    says = "tiers.host: 'automatic' is neither auto nor a size such as 78GiB"
    assert problem(tmp_path, MINIMAL.replace("host: 1GB", "host: automatic")) == says


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name a configuration with --config"):
        load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("feedback", ["{}", "{consent: false}", "{keep_days: 3}"])
def test_feedback_without_consent_is_refused(tmp_path: Path, feedback: str) -> None:
    says = problem(tmp_path, MINIMAL + f"feedback: {feedback}\n")
    assert says.startswith("feedback: consent: true is missing; it says that those who ask know")


def test_a_pattern_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    says = problem(tmp_path, MINIMAL + "feedback: {consent: true, redact: ['a', '(']}\n")
    assert says.startswith("feedback.redact: '(' is no regular expression: ")


def test_arguments_that_would_break_turns_are_refused_with_their_reason(tmp_path: Path) -> None:
    family = "small: {extra_args: [--enable-lora]}"
    says = problem(tmp_path, MINIMAL.replace("small: {mode: simulated}", family))
    reason = "--enable-lora: an adapter is an expert of a family with mode lora; leave it out"
    assert says == f"families.small.extra_args: {reason}"
