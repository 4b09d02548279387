"""Answers of unmodified vLLM are kept by all that decides them, and heard again as they were."""

import shutil
from pathlib import Path

import pytest

from tests.kept_answers import KeptAnswers, KeptResponse

BODY = {"prompt": "a", "max_tokens": 4}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    return folder


async def test_an_answer_is_heard_again_as_it_was(checkpoint: Path, tmp_path: Path) -> None:
    kept = KeptAnswers({"dtype": "float32"}, tmp_path / "kept")
    file = kept.file(checkpoint, "law", "/v1/completions", BODY)
    assert kept.read(file) is None
    kept.write(file, KeptResponse("text/event-stream", b"data: 1\n\ndata: [DONE]\n\n"))
    again = KeptAnswers({"dtype": "float32"}, tmp_path / "kept")
    heard = again.read(again.file(checkpoint, "law", "/v1/completions", BODY))
    assert heard is not None
    assert (heard.status, heard.content_type) == (200, "text/event-stream")
    assert [chunk async for chunk in heard.chunks()] == [b"data: 1\n\ndata: [DONE]\n\n"]


@pytest.mark.parametrize("changed", ["weights", "template", "configuration", "threads", "prompt", "expert"])
def test_whatever_decides_an_answer_makes_it_another(
    changed: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = KeptAnswers({"dtype": "float32"}, tmp_path).file(checkpoint, "law", "/v1/completions", BODY)
    other, config, body, expert = tmp_path / "other", {"dtype": "float32"}, dict[str, object](BODY), "law"
    shutil.copytree(checkpoint, other)
    assert KeptAnswers(config, tmp_path).file(other, expert, "/v1/completions", body) == before, (
        "wherever it is"
    )
    match changed:
        case "weights":
            (other / "model.safetensors").write_bytes(b"weightz")
        case "template":
            (other / "chat_template.jinja").write_text("{{ messages }}")
        case "configuration":
            config = {"dtype": "bfloat16"}
        case "threads":
            monkeypatch.setenv("OMP_NUM_THREADS", "2")
        case "prompt":
            body["prompt"] = "b"
        case "expert":
            expert = "math"
    assert KeptAnswers(config, tmp_path).file(other, expert, "/v1/completions", body) != before
