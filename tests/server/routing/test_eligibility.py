"""An expert that cannot take a request is out before the map is read."""

import asyncio
import contextlib
import random
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from experts.spec import Capability, Expert, FamilyConfig, Generation
from server.access.token_estimate import TokenEstimate
from server.config.settings import Settings
from server.errors import ContextTooLong, NotCapable
from server.model_request import ModelRequest
from server.routing.catalog import open_experts
from server.routing.eligibility import LONG, PIECE, Eligibility, least_tokens
from server.routing.routing import Routing
from server.routing.thread_pools import Workers
from tests.server.conftest import Gateway, Serving

MATHS = "What is the integral of x^2?"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
PAPER = {"type": "file", "file": {"file_id": "file-1"}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


def expert(
    name: str,
    capabilities: tuple[Capability, ...] | None = None,
    family: str = "small",
    generation: Generation | None = None,
) -> Expert:
    return Expert(
        name, family, Path(name), 1, 1, "print", "", generation or Generation(), capabilities=capabilities
    )


def request(content: object = "hello", **fields: Any) -> ModelRequest:
    message = {"role": "user", "content": content}
    return ModelRequest("coe", (message,), False, {"messages": [message], **fields})


def ruled_out(request: ModelRequest, *experts: Expert) -> dict[str, str]:
    return dict(Eligibility.of(request, experts, {"small": 100, "large": 1000}).ruled_out)


@pytest.mark.parametrize(
    ("asks", "needs"),
    [
        (request([PICTURE]), "images"),
        (request([{"type": "text", "text": "hear"}, SOUND]), "audio"),
        (request([PAPER]), "files"),
        (request(tools=[TOOL]), "tools"),
        (request(tools=[TOOL], tool_choice="auto"), "tools"),
    ],
)
def test_what_a_request_needs_rules_out_who_is_said_not_to_have_it(
    asks: ModelRequest, needs: Capability
) -> None:
    others: tuple[Capability, ...] = tuple({"tools", "images", "audio", "files"} - {needs})  # type: ignore[arg-type]
    found = ruled_out(
        asks, expert("has", (needs,)), expert("lacks", others), expert("silent"), expert("text", ())
    )
    assert found == {"lacks": needs, "text": needs}


def test_tools_are_not_for_an_engine_that_cannot_tell_their_calls_from_text() -> None:
    deaf = replace(expert("deaf"), parses_tools=False)
    assert ruled_out(request(tools=[TOOL]), deaf, expert("hears")) == {"deaf": "tools"}
    assert ruled_out(request(tools=[TOOL], tool_choice="none"), deaf) == {}


@pytest.mark.parametrize(
    ("family", "parses"),
    [
        (FamilyConfig(), False),
        (FamilyConfig(tool_parser="hermes"), True),
        (FamilyConfig(extra_args=("--tool-call-parser=hermes",)), True),
        (FamilyConfig(mode="simulated"), True),
    ],
)
def test_the_experts_of_a_family_take_tools_where_it_has_a_parser(
    family: FamilyConfig, parses: bool, settings: Settings
) -> None:
    made = open_experts(settings.model_copy(update={"families": {"small": family}}))
    assert {expert.parses_tools for expert in made.values()} == {parses}


@pytest.mark.parametrize(
    "asks",
    [
        request(),
        request(tools=[]),
        request(tools=[TOOL], tool_choice="none"),
        request([{"type": "later"}, 7]),
    ],
)
def test_a_request_for_text_needs_nothing(asks: ModelRequest) -> None:
    assert ruled_out(asks, expert("text", ())) == {}


@pytest.mark.parametrize(
    ("asks", "fits"),
    [
        (request("word " * 100), True),
        (request("word " * 101), False),
        (request("word " * 60, max_tokens=40), True),
        (request("word " * 60, max_tokens=41), False),
        (request("word " * 60, max_tokens=500, max_completion_tokens=7), True),
        (request("word " * 500, truncate_prompt_tokens=50), True),
        (request("word", max_tokens="many"), True),
        (request([{"type": "text", "text": "word " * 101}]), False),
    ],
)
def test_a_window_that_surely_is_too_small_rules_out(asks: ModelRequest, fits: bool) -> None:
    found = ruled_out(asks, expert("short"), expert("long", family="large"))
    assert found == ({} if fits else {"short": "context"})


def test_the_answer_that_an_expert_is_configured_to_give_counts_where_the_request_does_not_say() -> None:
    wordy = expert("wordy", generation=Generation(max_tokens=90))
    assert ruled_out(request("word " * 20), wordy) == {"wordy": "context"}
    assert ruled_out(request("word " * 20, max_tokens=5), wordy) == {}


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog; nobody was surprised by the counterrevolutionaries.",
        "for index in range(len(values)):\n    total += values[index]['weight'] * self._scale_of(index)\n",
        "=" * 300 + "\n| a | b |\n" + "-" * 200,
        "Donaudampfschifffahrtsgesellschaft und Rechtsschutzversicherungsgesellschaften",
        "人工智能正在改变我们的生活方式,许多行业都受到了影响。",
        "x = 3.14159265358979323846; y = 0xDEADBEEF; https://example.org/a/b?c=d&e=f#g",
    ],
)
def test_a_tokenizer_takes_no_fewer_tokens_than_are_counted(base_checkpoint: Path, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(base_checkpoint / "tokenizer.json"))
    assert 0 < least_tokens(iter([text]), 10**6) <= len(tokenizer.encode(text, add_special_tokens=False).ids)


def test_counting_ends_once_nobody_could_take_it() -> None:
    assert least_tokens(iter(["a " * 10_000]), 50) == 51


async def test_the_tokens_of_a_long_text_are_counted_beside_the_event_loop() -> None:
    go_on = threading.Event()
    short, long = (request(text)._replace(model="law") for text in ("word", "word " * LONG))
    with contextlib.closing(Workers()) as workers:
        routing = Routing({}, {"law": expert("law")}, {"small": LONG - 1}, lambda *_: None, workers)
        busy = [asyncio.create_task(workers.decide(lambda: go_on.wait(30))) for _ in range(workers.threads)]
        await asyncio.sleep(0)
        route, need = (
            asyncio.create_task(routing.route(long)),
            asyncio.create_task(TokenEstimate.of(long, workers)),
        )
        await asyncio.sleep(0)
        assert (await routing.route(short)).expert == "law"
        assert (await TokenEstimate.of(short, workers)).prompt_tokens == 1
        assert not route.done()
        assert not need.done()
        go_on.set()
        assert (await need).prompt_tokens == LONG
        with pytest.raises(ContextTooLong, match=f"at least {LONG} for its messages"):
            await route
        await asyncio.gather(*busy)


def test_who_cannot_is_named_with_the_reason() -> None:
    found = Eligibility.of(
        request([PICTURE], tools=[TOOL]), [expert("a", ("tools",)), expert("b", ("images",))], {"small": 100}
    )
    with pytest.raises(
        NotCapable, match=r"^This request needs tools: a does not take images, b does not take tools"
    ) as says:
        found.among(["a", "b"])
    assert says.value.param == "tools"


def test_a_window_too_small_for_all_says_how_large_they_are() -> None:
    found = Eligibility.of(request("word " * 90, max_tokens=20), [expert("a"), expert("b")], {"small": 100})
    with pytest.raises(
        ContextTooLong,
        match=r"maximum context length is 100 tokens \(a, b\).*at least 90 for its messages and 20",
    ):
        found.among(["b", "a"])


def able(settings: Settings, **capabilities: list[Capability]) -> Settings:
    experts = {
        name: config.model_copy(update={"capabilities": tuple(capabilities[name])})
        if name in capabilities
        else config
        for name, config in settings.experts.items()
    }
    return settings.model_copy(update={"experts": experts})


async def refused(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    answer = await gateway.post(**fields)
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


def asking(*content: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": MATHS}, *content]}]


async def test_a_composition_sends_a_picture_to_who_can_see(serving: Serving, settings: Settings) -> None:
    seeing = able(settings, general=[], math=["tools"], coding=[], medicine=["images"], law=[])
    async with serving(seeing) as gateway:
        answer = await gateway.post(model="coe", messages=asking(PICTURE))
        assert (answer.headers["x-coe-category"], answer.headers["x-coe-expert"]) == ("math", "medicine")
        without = await gateway.post(model="coe", messages=asking())
        assert without.headers["x-coe-expert"] == "math"
        error = await refused(gateway, model="coe", messages=asking(SOUND))
        assert (error["code"], error["param"]) == ("unsupported_capability", "messages[0].content[1]")
        assert "needs audio" in error["message"]


async def test_an_expert_by_its_name_refuses_what_it_is_said_not_to_take(
    serving: Serving, settings: Settings
) -> None:
    async with serving(able(settings, law=[])) as gateway:
        error = await refused(gateway, model="law", tools=[TOOL])
        assert error["message"] == "This request needs tools: law does not take tools."
        assert (error["code"], error["param"]) == ("unsupported_capability", "tools")
        assert (await gateway.post(model="math", tools=[TOOL])).status_code == 200


async def test_a_request_longer_than_every_window_gets_openais_error(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        long = [{"role": "user", "content": "word " * 200_001}]
        for model in ("coe", "law"):
            error = await refused(gateway, model=model, messages=long)
            assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


async def test_models_say_what_experts_take(serving: Serving, settings: Settings) -> None:
    async with serving(able(settings, law=["tools"])) as gateway:
        listed = {
            model["id"]: model["coe"] for model in (await gateway.http.get("/v1/models")).json()["data"]
        }
        assert listed["law"]["capabilities"] == ["tools"]
        assert listed["math"]["capabilities"] is None


@pytest.mark.parametrize(("letters", "left_out"), [("ab .", 0), ("ab", 3), (".", 0)])
def test_a_text_is_counted_in_pieces_and_never_beyond_what_it_has(letters: str, left_out: int) -> None:
    lottery = random.Random(3)
    for _ in range(10):
        text = "".join(lottery.choices(letters, k=lottery.randrange(3 * PIECE)))
        whole = len(re.findall(r"[ab]{1,20}", text))
        assert whole - left_out <= least_tokens(iter([text]), len(text)) <= whole
