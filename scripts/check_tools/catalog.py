"""The tools that ``check_tools`` runs: their packages, and a session of each."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = ROOT / "tests" / "clients" / "tools"
NODE = ROOT / "tests" / "clients" / "node"
Command = Sequence[str | Path]
AS_OF = "2026-11-27"
"""The day of which the packages are, so that what runs today runs in a year."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, by its packages. ``files``: written beside its session; ``command``: its session, of the folder
    it is installed in and the gateway's address. ``hub``: whether it is let ask Hugging Face's."""

    packages: tuple[str, ...]
    command: Callable[[Path, str], Command]
    files: Mapping[str, str] | None = None
    npm: bool = False
    hub: bool = False


def _python(session: str) -> Callable[[Path, str], Command]:
    return lambda folder, url: [folder / "bin" / "python", SESSIONS / session]


def _node(session: str, *packages: str) -> Tool:
    """The session that CI runs of the pinned packages, as they are now."""
    names = ("checks.mjs", f"session_{session}.mjs")
    files = {name: (NODE / name).read_text(encoding="utf-8") for name in names}
    return Tool(packages, lambda folder, url: ["node", names[1]], files, npm=True)


def _aider(folder: Path, url: str) -> Command:
    flags = [
        "--no-git",
        "--yes-always",
        "--no-check-update",
        "--no-show-model-warnings",
        "--analytics-disable",
    ]
    api = ["--openai-api-base", f"{url}/v1", "--openai-api-key", "none", "--model", "openai/coe"]
    return [
        folder / "bin" / "aider",
        *api,
        *flags,
        "--analytics-disable",
        "--no-show-release-notes",
        "--message",
        "Say hello.",
    ]


def _harness(folder: Path, url: str) -> Command:
    model = f"model=coe,base_url={url}/v1/chat/completions"
    task = ["--tasks", "coe_facts", "--include_path", ".", "--apply_chat_template"]
    return [folder / "bin" / "lm_eval", "--model", "local-chat-completions", "--model_args", model, *task]


def _aiperf(folder: Path, url: str) -> Command:
    tokens = ["--synthetic-input-tokens-mean", "20", "--output-tokens-mean", "8"]
    ask = ["--model", "coe", "--url", url, "--endpoint-type", "chat", "--streaming", *tokens]
    load = ["--request-count", "4", "--concurrency", "2", "--ui", "none"]
    return [folder / "bin" / "aiperf", "profile", *ask, *load, "--tokenizer", folder / "tokenizer"]


FACTS = [("What is two plus two?", "four"), ("What is the capital of France?", "Paris")]
TASK = {
    "task": "coe_facts",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "facts.jsonl"}},
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
TOOLS = {
    "ollama": Tool(("ollama", "llm", "llm-ollama"), _python("ollama_python.py")),
    "langchain-ollama": Tool(("langchain-ollama",), _python("langchain_chat.py")),
    "semantic-kernel": Tool(("semantic-kernel",), _python("semantic_kernel_chat.py")),
    "ollama-node": _node("ollama", "ollama"),
    "ai-sdk": _node("ai_sdk", "ai", "@ai-sdk/openai-compatible"),
    "promptfoo": Tool(
        ("promptfoo",),
        lambda folder, url: ["npx", "promptfoo", "eval", "-c", "eval.yaml", "--no-cache", "--no-table"],
        {
            "eval.yaml": json.dumps(
                {
                    "prompts": ["Say {{word}}."],
                    "providers": [
                        {"id": "openai:chat:coe", "config": {"apiBaseUrl": "URL/v1", "apiKey": "none"}}
                    ],
                    "tests": [{"vars": {"word": "hello"}, "assert": [{"type": "regex", "value": "\\S"}]}],
                }
            )
        },
        npm=True,
    ),
    "aider": Tool(("aider-chat",), _aider),
    "lm-evaluation-harness": Tool(
        ("lm-eval[api]",),
        _harness,
        {
            "coe_facts.yaml": json.dumps(TASK),
            "facts.jsonl": "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in FACTS),
        },
    ),
    "aiperf": Tool(  # told that there is no hub, it takes a folder for a repository's name
        ("aiperf",),
        _aiperf,
        {
            "tokenizer/tokenizer.json": (ROOT / "router/minilm/tokenizer.json").read_text(encoding="utf-8"),
            "tokenizer/tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast"}',
            "tokenizer/config.json": '{"model_type": "bert"}',
        },
        hub=True,
    ),
}
