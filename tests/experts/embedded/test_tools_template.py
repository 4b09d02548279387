"""The chat template of the embedded composition: the checkpoint's own, and tools as Hermes says them."""

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).resolve().parents[3]
ASKED = [{"role": "user", "content": "How is the weather in Rome?"}]
CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def rendered(template: str, messages: list[dict[str, Any]], **more: Any) -> str:
    """As transformers does it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = json.dumps
    return environment.from_string(template).render(messages=messages, **more)


@pytest.fixture(scope="module")
def template() -> str:
    return (ROOT / "configs" / "smollm2_tools.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize(
    "messages",
    [
        ASKED,
        [{"role": "system", "content": "Be terse."}, *ASKED],
        [*ASKED, {"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "Why?\n"}],
        [*ASKED, {"role": "system", "content": "Be terse."}],
        [{"role": "assistant", "content": ""}],
    ],
)
def test_without_tools_it_says_what_the_checkpoints_own_says(
    template: str, messages: list[dict[str, Any]], add_generation_prompt: bool, base_checkpoint: Path
) -> None:
    own = (base_checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    ours = rendered(template, messages, add_generation_prompt=add_generation_prompt, tools=None)
    assert ours == rendered(own, messages, add_generation_prompt=add_generation_prompt)


def test_tools_calls_and_their_results_are_shown(template: str) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "a", "content": "sunny"}
    prompt = rendered(template, [*ASKED, called, result], tools=[TOOL], add_generation_prompt=True)
    assert '<tools>\n{"type": "function", "function": {"name": "weather"' in prompt
    assert (
        '\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>' in prompt
    )
    assert "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n" in prompt
    assert prompt.endswith("<|im_start|>assistant\n")
