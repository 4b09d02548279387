"""A gateway over several engines of a family: each answers, one that is killed leaves the family served."""

import asyncio

import pytest
from pydantic import ValidationError

from experts.simulated.engine import SimulatedEngine
from server.config.settings import Settings
from server.exchange.engine.conversation import conversation_of
from tests.server.conftest import Serving, chat

LATER = {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"}


def twice(settings: Settings) -> Settings:
    families = {name: family.model_copy(update={"replicas": 2}) for name, family in settings.families.items()}
    return settings.model_copy(update={"families": families})


async def test_requests_are_answered_by_both_engines_and_by_the_one_that_is_left(
    serving: Serving, settings: Settings
) -> None:
    async with serving(twice(settings)) as gateway:
        engines = gateway.services.engines
        assert [*engines] == ["small", "small#2"]
        first, second = engines["small"], engines["small#2"]
        assert isinstance(first, SimulatedEngine)
        answers = await asyncio.gather(*(gateway.post(model=model) for model in ("law", "math", "general")))
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        models = (await gateway.http.get("/v1/models/law")).json()["coe"]
        assert (models["family"], models["ready"]) == ("small", True)
        first.crash("its card failed")
        answers = await asyncio.gather(*(gateway.post(model=model) for model in ("law", "math", "general")))
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert (await gateway.http.get("/ready")).status_code == 200
        assert second.state == "ready"


def test_requests_of_a_conversation_begin_alike_and_others_do_not() -> None:
    first = conversation_of(chat())
    messages = chat()["messages"]
    assert conversation_of(chat(messages=[*messages, *LATER])) == first != ""
    assert conversation_of(chat(messages=[{"role": "user", "content": "other"}])) != first
    assert conversation_of(chat(cache_salt="mine")) != first, "another key's prefix is not its own"
    assert conversation_of({"prompt": "once upon"}) == conversation_of({"prompt": "once upon"}) != ""
    assert conversation_of({"input": "text"}) == conversation_of({"messages": []}) == ""


def test_a_name_that_an_engine_would_have_is_refused(settings: Settings) -> None:
    tree = settings.model_dump(exclude={"server"})
    tree["families"]["small#2"] = tree["families"]["small"]
    with pytest.raises(ValidationError, match=r"families\.small#2: engines of a family are named so"):
        Settings.model_validate(tree)
