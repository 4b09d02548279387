"""Guesses by a chat template how a model writes tool calls and its reasoning."""

from dataclasses import dataclass

from experts.survey.candidate import Parsers
from experts.survey.vllm_support import VllmSupport


@dataclass(frozen=True, slots=True)
class _Sign:
    """``parser`` reads what a template with all of ``marks`` and none of ``without`` teaches to write.
    ``kinds``: beginnings of ``model_type``; empty: any."""

    parser: str
    marks: tuple[str, ...]
    without: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


_TOOLS = (
    _Sign("openai", (), kinds=("gpt_oss",)),
    _Sign("mistral", ("[TOOL_CALLS]",)),
    _Sign("kimi_k2", ("<|tool_calls_section_begin|>",)),
    _Sign("deepseek_v31", ("<｜tool▁calls▁begin｜>",), without=("```json",)),
    _Sign("deepseek_v3", ("<｜tool▁calls▁begin｜>", "```json")),
    _Sign("minimax_m2", ("<minimax:tool_call>",)),
    _Sign("seed_oss", ("<seed:tool_call>",)),
    _Sign("glm45", ("<arg_key>", "<tool_call>")),
    _Sign("qwen3_coder", ("<tool_call>", "<function=")),
    _Sign("lfm2", ("<|tool_call_start|>",)),
    _Sign("cohere_command3", ("<|START_ACTION|>",)),
    _Sign("functiongemma", ("<start_function_call>",)),
    _Sign("granite4", ("<tool_call>",), kinds=("granitemoehybrid",)),
    _Sign("granite", ("<|tool_call|>",), kinds=("granite",)),
    _Sign("phi4_mini_json", ("<|tool|>",), kinds=("phi3", "phi4")),
    _Sign("hermes", ("<tool_call>",)),
    _Sign("llama4_pythonic", ("<|python_start|>",), kinds=("llama4",)),
    _Sign("llama3_json", ("<|python_tag|>",)),
    _Sign("llama3_json", ("ipython", '"parameters"')),
    _Sign("olmo3", ("<function_calls>",), kinds=("olmo",)),
)
"""From the most telling to the least; the first whose marks are there is the one."""
_REASONING = (
    _Sign("openai_gptoss", (), kinds=("gpt_oss",)),
    _Sign("mistral", ("[THINK]",)),
    _Sign("seed_oss", ("<seed:think>",)),
    _Sign("glm45", ("<think>",), kinds=("glm4",)),
    _Sign("minimax_m2", ("<think>",), kinds=("minimax",)),
    _Sign("kimi_k2", ("<think>",), kinds=("kimi",)),
    _Sign("nemotron_v3", ("<think>",), kinds=("nemotron",)),
    _Sign("olmo3", ("<think>",), kinds=("olmo",)),
    _Sign("granite", ("Here is my thought process",)),
    _Sign("qwen3", ("<think>", "enable_thinking")),
    _Sign("qwen3", ("</think>",), kinds=("qwen3",)),
    _Sign("deepseek_r1", ("</think>",)),
    _Sign("deepseek_r1", ("<think>",)),
)


def guessed(template: str, kind: str, support: VllmSupport | None) -> Parsers:
    """Guesses for a model whose ``model_type`` is ``kind``. Names no parser that the installed vLLM lacks;
    ``support`` is None where there is no vLLM to ask."""
    takes_tools = "tools" in template or "tool_call" in template
    tool = _first(_TOOLS, template, kind) if takes_tools else None
    reasoning = _first(_REASONING, template, kind)
    if support is not None:
        tool = tool if tool in support.tool_parsers else None
        reasoning = reasoning if reasoning in support.reasoning_parsers else None
    return Parsers(tool, reasoning)


def _first(signs: tuple[_Sign, ...], template: str, kind: str) -> str | None:
    return next((sign.parser for sign in signs if _fits(sign, template, kind)), None)


def _fits(sign: _Sign, template: str, kind: str) -> bool:
    return (
        all(mark in template for mark in sign.marks)
        and not any(mark in template for mark in sign.without)
        and (not sign.kinds or kind.startswith(sign.kinds))
    )
