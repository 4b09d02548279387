"""Logs and exports of others, as they really look, become prompts."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from router.data.dataset import read_examples
from router.data.redaction import Redaction
from router.data.traffic_import import Imported, TrafficImport
from server.cli.main import main
from tests.server.conftest import ROOT

Captured = pytest.CaptureFixture[str]
ASKED = "How do vaccines train the immune system of small children?"


def messages(text: Any = ASKED) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": text},
    ]


def langchain(text: str = ASKED) -> list[dict[str, Any]]:
    kinds = {"SystemMessage": "Be brief.", "HumanMessage": text}
    return [
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "messages", kind],
            "kwargs": {"content": said},
        }
        for kind, said in kinds.items()
    ]


RECORDS: dict[str, Any] = {
    "openai request": {"model": "gpt-4o", "messages": messages()},
    "content parts": {
        "messages": messages([{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": {}}])
    },
    "openai batch": {
        "custom_id": "request-1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o", "messages": messages()},
    },
    "openai responses": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": ASKED}]}],
    },
    "completions": {"model": "x", "prompt": ASKED},
    "litellm standard payload": {"call_type": "acompletion", "messages": messages(), "response": {}},
    "litellm spend log": {
        "request_id": "1",
        "messages": {},
        "response": {},
        "proxy_server_request": {"model": "gpt-4o", "messages": messages()},
    },
    "litellm spend log as the database exports it": {
        "messages": "{}",
        "proxy_server_request": json.dumps({"model": "gpt-4o", "messages": messages()}),
    },
    "litellm callback": {
        "proxy_server_request": {"url": "http://x", "method": "POST", "body": {"messages": messages()}}
    },
    "langsmith run": {"id": "1", "run_type": "llm", "inputs": {"messages": messages()}, "outputs": {}},
    "langsmith run of langchain": {"run_type": "llm", "inputs": {"messages": [langchain()]}},
    "langsmith chain": {"run_type": "chain", "inputs": {"input": ASKED}},
    "langfuse generation": {"type": "GENERATION", "input": messages(), "output": {"role": "assistant"}},
    "langfuse generation with tools": {"input": {"tools": [], "messages": messages()}},
    "langfuse trace": {"name": "chat", "input": ASKED},
    "langfuse as text": {"input": json.dumps(messages())},
    "messages alone": messages(),
    "langchain messages alone": langchain(),
}


def imported(*files: Path, **options: Any) -> Imported:
    traffic = TrafficImport(Redaction(), **options)
    for file in files:
        traffic.read(file)
    return traffic.imported


def prompts(found: Imported) -> list[str]:
    return [example.prompt for example in found.examples]


def lines(folder: Path, *records: Any, name: str = "log.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_of_each_kind_gives_what_the_person_asks(tmp_path: Path, record: Any) -> None:
    assert prompts(imported(lines(tmp_path, record))) == [ASKED]


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_so_does_a_document_over_several_lines(tmp_path: Path, record: Any) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps([record], indent=2), encoding="utf-8")
    assert prompts(imported(file)) == [ASKED]


def test_a_chat_of_open_webui_gives_each_turn_with_what_it_follows_up_on(tmp_path: Path) -> None:
    said = ["What is a monad?", "A monoid.", "and why?", "Because.", "Write a sonnet about autumn rain."]
    turns = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(said)]
    export = [
        {"id": "1", "title": "t", "chat": {"title": "t", "messages": turns, "history": {"messages": {}}}}
    ]
    file = lines(tmp_path, export, name="chat-export-1.json")
    assert prompts(imported(file)) == [said[0], f"{said[0]}\n{said[2]}", said[4]]


def test_plain_text_is_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("[a] What is law?\n\nWrite a poem about rain\n", encoding="utf-8")
    assert prompts(imported(file)) == ["[a] What is law?", "Write a poem about rain"]


def test_gzip_and_several_files_are_read(tmp_path: Path) -> None:
    one = lines(tmp_path, {"prompt": "What is law?"})
    two = tmp_path / "two.jsonl.gz"
    two.write_bytes(gzip.compress(b'{"prompt": "What is medicine?"}\n'))
    assert prompts(imported(one, two)) == ["What is law?", "What is medicine?"]


def test_the_same_prompt_and_near_twins_are_kept_once_and_ids_stay(tmp_path: Path) -> None:
    numbers = "Ann has {} apples and buys {} more pears at the market, how many fruits does she have now?"
    file = lines(
        tmp_path, *({"prompt": text} for text in (ASKED, ASKED, numbers.format(3, 4), numbers.format(5, 6)))
    )
    found = imported(file)
    assert prompts(found) == [ASKED, numbers.format(3, 4)]
    assert (found.duplicates, found.twins) == (1, 1)
    assert found.examples == imported(file).examples


def test_secrets_are_redacted(tmp_path: Path) -> None:
    assert prompts(imported(lines(tmp_path, {"prompt": "mail ada@example.org"}))) == ["mail <email>"]


def test_requests_without_a_persons_text_are_counted(tmp_path: Path) -> None:
    found = imported(lines(tmp_path, {"messages": [{"role": "system", "content": "x"}]}, {"prompt": ASKED}))
    assert (prompts(found), found.speechless, found.unreadable) == ([ASKED], 1, 0)


def test_categories_come_from_a_field_or_are_given(tmp_path: Path) -> None:
    file = lines(
        tmp_path,
        {"prompt": "What is law?", "metadata": {"tags": ["law"]}},
        {"prompt": "What is rain?", "metadata": json.dumps({"tags": ["weather"]})},
        {"prompt": "What is love?", "metadata": {"tags": [3]}},
    )
    labels = [example.category for example in imported(file, category_field="metadata.tags.0").examples]
    assert labels == ["law", "weather", None]
    assert {example.category for example in imported(file, category="mine").examples} == {"mine"}


def test_at_most_as_many_as_the_limit(tmp_path: Path) -> None:
    file = lines(
        tmp_path, {"prompt": "What is law?"}, {"prompt": "What is rain?"}, {"prompt": "What is love?"}
    )
    assert len(imported(file, file, limit=2).examples) == 2


DAMAGED = (
    f'{json.dumps({"prompt": ASKED})}\n{{"prompt": "cut o\n[1, 2]\n{json.dumps({"model": "x"})}\n'
    '{"prompt": "\\ud800 what is law?"}\n' + '{"body":' * 3000 + "\n"
)


def coe(*arguments: str | Path) -> int:
    return main(["router", "import-traffic", *map(str, arguments)])


def test_what_cannot_be_read_is_counted_and_the_rest_written(tmp_path: Path, capsys: Captured) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "out.jsonl"
    log.write_text(DAMAGED, encoding="utf-8")
    assert coe(log, "--out", out) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: 2 prompts, 0 with a category\n"
    assert said.err.startswith(f"coe: 5 cannot be read: {log}, line 2: not a JSON object; {log}, line 3: ")
    assert said.err.endswith("; and 2 more\n")
    assert [example.prompt for example in read_examples(out)] == [ASKED, "? what is law?"]


def test_strict_writes_nothing_if_a_line_cannot_be_read(tmp_path: Path, capsys: Captured) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "out.jsonl"
    log.write_text(DAMAGED, encoding="utf-8")
    assert coe(log, "--out", out, "--strict") == 1
    assert "nothing is written: 5 cannot be read" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent.jsonl"], "absent.jsonl cannot be read"),
        (["cut.gz"], "cut.gz cannot be read: Compressed file ended"),
        (["damaged.gz"], "damaged.gz cannot be read: Error -3"),
        (["empty.jsonl"], "no prompt in empty.jsonl; nobody says anything"),
        (["log.jsonl", "--redact", "("], "--redact: '(' is no regular expression"),
        (["log.jsonl", "--limit", "0"], "--limit 0: at least 1"),
        (["log.jsonl", "--out", "nowhere/out.jsonl"], "nowhere/out.jsonl cannot be written: No such file"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path, {"prompt": ASKED})
    (tmp_path / "empty.jsonl").touch()
    packed = gzip.compress(b'{"prompt": "What is law?"}\n')
    (tmp_path / "cut.gz").write_bytes(packed[:-12])
    (tmp_path / "damaged.gz").write_bytes(packed[:10] + b"\xff" * 20)
    assert coe("--out", "out.jsonl", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"coe: {says}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_half_of_a_document_is_not_taken_for_text(tmp_path: Path, capsys: Captured) -> None:
    file, out = tmp_path / "export.json", tmp_path / "out.jsonl"
    file.write_text(json.dumps([{"messages": messages()}], indent=2)[:-20])
    assert coe(file, "--out", out) == 1
    assert f"no prompt in {file}" in capsys.readouterr().err
    assert not out.exists()


def test_a_pipe_is_read_and_a_compressed_file_written(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl.gz"
    command = [sys.executable, "-m", "server.cli", "router", "import-traffic", "-", "--out", str(out)]
    asked = json.dumps({"messages": messages("mail ada@example.org about case K-12"), "topic": "law"})
    done = subprocess.run(
        [*command, "--redact", r"K-\d+", "--category-field", "topic"],
        input=asked,
        text=True,
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (example,) = read_examples(out)
    assert (example.prompt, example.category) == ("mail <email> about case <redacted>", "law")
    assert example.id.startswith("traffic/")
