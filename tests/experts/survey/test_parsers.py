"""Parsers are guessed from what a chat template teaches the model to write."""

import pytest

from experts.survey.candidate import Parsers
from experts.survey.parsers import guessed
from experts.survey.vllm_support import vllm_support

TEMPLATES = {
    ("qwen2", "{% if tools %}<tools></tools> within <tool_call></tool_call> XML tags"): Parsers("hermes"),
    ("qwen3", "{% if tools %}<tool_call>{% endif %}{% if enable_thinking %}<think>"): Parsers(
        "hermes", "qwen3"
    ),
    ("qwen3_moe", "{% if tools %}<tool_call>\n<function=example>"): Parsers("qwen3_coder"),
    ("llama", '{% if tools %}Environment: ipython ... {"name":, "parameters":}<|python_tag|>'): Parsers(
        "llama3_json"
    ),
    ("mistral", "[AVAILABLE_TOOLS]{{ tools }}[TOOL_CALLS]"): Parsers("mistral"),
    ("qwen2", "<｜Assistant｜><think>\\n</think>"): Parsers(None, "deepseek_r1"),
    ("deepseek_v3", "{{ message.tool_calls }}<｜tool▁calls▁begin｜>function```json</think>"): Parsers(
        "deepseek_v3", "deepseek_r1"
    ),
    ("glm4_moe", "{% for t in tools %}<tool_call>{name}<arg_key><think></think>"): Parsers("glm45", "glm45"),
    ("gpt_oss", "<|channel|>analysis {{ tools }}"): Parsers("openai", "openai_gptoss"),
    ("llama", "{{ messages }}"): Parsers(),
    ("llama", "the model may write <tool_calls by itself"): Parsers(),
}


@pytest.mark.parametrize(("given", "wanted"), TEMPLATES.items())
def test_a_template_tells_its_parsers(given: tuple[str, str], wanted: Parsers) -> None:
    kind, template = given
    assert guessed(template, kind, vllm_support()) == wanted


def test_no_parser_is_named_that_the_installed_vllm_lacks() -> None:
    support = vllm_support()
    assert support is not None
    assert {"hermes", "mistral"} <= support.tool_parsers
    assert "qwen3" in support.reasoning_parsers
    assert "LlamaForCausalLM" in support.generating
    assert "BertModel" in support.embedding
    assert "gptq" in support.quantisation
    fewer = type(support)(*[frozenset[str]()] * 7)
    assert guessed("{% if tools %}<tool_call></think>", "qwen2", fewer) == Parsers()
