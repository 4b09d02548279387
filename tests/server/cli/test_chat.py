"""``coe chat`` streams answers, says who gave them, and outlives an answer that is broken off."""

import asyncio
import io
import sys
from contextlib import closing

import pytest

from server.cli.main import main
from server.cli.setup.chat import _talk
from server.cli.setup.conversation import Conversation
from server.config.settings import Settings
from tests.server.conftest import Serving, simulated, until


async def test_a_piped_question_is_answered_and_who_answered_is_said_aside(
    serving: Serving, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Is a verbal contract binding?\n"))
    async with serving(settings) as gateway:
        assert await asyncio.to_thread(main, ["chat", "coe", "--url", gateway.url]) == 0
    said = capsys.readouterr()
    assert said.out.strip()
    assert said.err.startswith("law (category law, confidence ")


async def test_a_conversation_goes_on_after_errors_and_ended_answers(
    serving: Serving, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(simulated(settings, tokens_per_s=50)) as gateway:
        conversation = Conversation(gateway.url, None)
        typed = iter(
            [
                "/models",
                "/model mth",
                "hello",
                "/model math",
                "and you?",
                "/new",
                KeyboardInterrupt(),
                "/what",
            ]
        )

        def read(prompt: str) -> str:
            print(prompt)
            given = next(typed, EOFError())
            if isinstance(given, BaseException):
                raise given
            return str(given)

        with closing(conversation):
            assert await asyncio.to_thread(_talk, conversation, read) == 0
        assert conversation.messages == []
    said = capsys.readouterr().out
    assert "coe, general, math, coding, medicine, law" in said
    assert "no model 'mth'; did you mean math?" in said
    assert "coe> " in said
    assert "math> " in said
    assert "  math (" in said


async def test_an_answer_that_is_ended_leaves_no_lease_and_is_kept_as_far_as_it_came(
    serving: Serving, settings: Settings
) -> None:
    def ended(url: str) -> list[dict[str, str]]:
        with closing(Conversation(url, "law")) as conversation:
            answer = conversation.ask("hello " * 50)
            next(answer)
            answer.close()  # type: ignore[attr-defined]
            return conversation.messages

    async with serving(simulated(settings, tokens_per_s=20)) as gateway:
        messages = await asyncio.to_thread(ended, gateway.url)
        assert [message["role"] for message in messages] == ["user", "assistant"]
        await until(lambda: gateway.services.tiers.counts().leases == 0)


async def test_what_is_wrong_is_one_line(
    serving: Serving, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, said in (
        ("http://127.0.0.1:9", "is `coe serve` running?"),
        ("nowhere", "is no address of a gateway"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO("hello"))
        assert await asyncio.to_thread(main, ["chat", "law", "--url", url]) == 1
        assert said in capsys.readouterr().err
    async with serving(settings) as gateway:
        monkeypatch.setattr(sys, "stdin", io.StringIO("hello"))
        assert await asyncio.to_thread(main, ["chat", "lwa", "--url", gateway.url]) == 1
    error = capsys.readouterr().err
    assert error.startswith("coe: ")
    assert "law" in error
    assert error.count("\n") == 1
