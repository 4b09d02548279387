"""Embedding models as experts, by the OpenAI client over a real socket and the simulated engine."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from experts.checkpoints.prepare import prepare
from experts.spec import CheckpointSource, ExpertConfig, FamilyConfig, SimulationConfig
from server.config.api_keys import KeyConfig
from server.config.settings import Settings, SettingsError
from server.routing.catalog import load_routers
from tests.server.batches.batch_client import client_of, ended, lines_of, submitted, text_of, with_batches
from tests.server.conftest import Serving, changed, chat

TEXTS = ["What is the integral of x^2?", "The court dismissed the appeal."]
URL = "/v1/embeddings"


@pytest.fixture
def with_models(settings: Settings, checkpoint: Path, tmp_path: Path) -> Settings:
    """Two embedding models beside the five experts. Their checkpoint has no chat template."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in checkpoint.iterdir():
        if file.name != "tokenizer_config.json":
            (bare / file.name).symlink_to(file)
    config = ExpertConfig(family="vectors", checkpoint=CheckpointSource(folder=bare))
    for name in ("e5", "bge"):
        prepare(name, config, settings.store, task="embed")
    family = FamilyConfig(mode="simulated", task="embed", simulation=SimulationConfig(tokens_per_s=2000))
    return settings.model_copy(
        update={
            "families": {**settings.families, "vectors": family},
            "experts": {**settings.experts, "e5": config, "bge": config},
        }
    )


def client(url: str, key: str = "any") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


async def test_the_openai_client_gets_the_models_vectors(with_models: Settings, serving: Serving) -> None:
    async with serving(with_models) as gateway, client(gateway.url) as openai_client:
        create = openai_client.embeddings.with_raw_response.create
        raw = await create(model="e5", input=TEXTS, extra_headers={"x-request-id": "mine"})
        packed = raw.parse()  # the client asks for base64
        plain = await openai_client.embeddings.create(model="e5", input=TEXTS[1], encoding_format="float")
        other = await openai_client.embeddings.create(model="bge", input=TEXTS[1])
        short = await openai_client.embeddings.create(model="e5", input=TEXTS[1], dimensions=16)
        one = await openai_client.embeddings.create(model="e5", input=[7, 8, 9])
        many = await openai_client.embeddings.create(model="e5", input=[[7, 8, 9], [4]])
        metrics = (await gateway.http.get("/metrics")).text
    assert (packed.model, packed.usage.prompt_tokens, packed.usage.total_tokens) == ("e5", 11, 11)
    assert [each.index for each in packed.data] == [0, 1]
    assert (raw.headers["x-request-id"], raw.headers["x-coe-expert"]) == ("mine", "e5")
    assert np.allclose(plain.data[0].embedding, packed.data[1].embedding)
    assert not np.allclose(plain.data[0].embedding, other.data[0].embedding)
    assert len(short.data[0].embedding) == 16
    assert (one.usage.prompt_tokens, many.usage.prompt_tokens) == (3, 4)
    assert np.allclose(one.data[0].embedding, many.data[0].embedding)
    assert 'coe_requests_total{expert="e5",outcome="200"} 5.0' in metrics


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": chat()["messages"]}),
        ("/v1/chat/completions", {"messages": chat()["messages"], "stream": True}),
        ("/v1/completions", {"prompt": "hello"}),
        ("/v1/responses", {"input": "hello"}),
        ("/v1/responses", {"input": "hello", "background": True}),
        ("/v1/messages", {"messages": chat()["messages"], "max_tokens": 5}),
        ("/v1/messages/count_tokens", {"messages": chat()["messages"]}),
        ("/v1/coe/route", {"messages": chat()["messages"]}),
    ],
)
async def test_an_embedding_model_generates_nothing_and_says_so(
    with_models: Settings, serving: Serving, path: str, fields: dict[str, Any]
) -> None:
    async with serving(with_models) as gateway:
        answer = await gateway.http.post(path, json={"model": "e5", **fields})
        await nothing_was_loaded(gateway.http)
    said = answer.json()["error"]
    assert answer.status_code == 400
    assert said["message"].startswith(
        "e5 is an embedding model and generates no text: ask for its vectors at /v1/em"
    )
    if "messages" not in path:  # Anthropic's errors have neither
        assert (said["param"], said["code"]) == ("model", "unsupported_capability")


async def test_who_generates_refuses_embeddings(with_models: Settings, serving: Serving) -> None:
    async with serving(with_models) as gateway:
        answer = await gateway.http.post(URL, json={"model": "math", "input": "hello"})
    said = answer.json()["error"]
    assert (answer.status_code, said["param"], said["code"]) == (400, "model", "unsupported_capability")
    assert said["message"].startswith("math generates text and gives no embeddings.")


async def nothing_was_loaded(http: httpx.AsyncClient) -> None:
    """The model beyond the one its engine starts with."""
    assert (await http.get("/v1/models/bge")).json()["coe"]["tier"] != "device"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "encoding_format": "bytes"}, "encoding_format"),
        ({"input": "a", "dimensions": 100}, "dimensions"),
        (
            {"messages": chat()["messages"], "chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
            "chat_template_kwargs.chat_template",
        ),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    with_models: Settings, serving: Serving, fields: dict[str, Any], param: str
) -> None:
    async with serving(with_models) as gateway:
        answer = await gateway.http.post(URL, json={"model": "e5", **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_conversation_can_be_embedded(with_models: Settings, serving: Serving) -> None:
    """As vLLM does it."""
    async with serving(with_models) as gateway:
        answer = await gateway.http.post(URL, json={"model": "e5", "messages": chat()["messages"]})
    assert (answer.status_code, answer.json()["usage"]["prompt_tokens"]) == (200, 1)


async def test_its_tokens_are_counted_without_a_chat_template(
    with_models: Settings, serving: Serving
) -> None:
    async with serving(with_models) as gateway:
        answer = await gateway.http.post("/tokenize", json={"model": "e5", "prompt": "one three"})
        back = await gateway.http.post("/detokenize", json={"model": "e5", "tokens": [3]})
    assert answer.json()["tokens"] == [3, 5]
    assert back.json() == {"prompt": "xxx"}


async def test_the_list_of_models_says_what_each_is_for(with_models: Settings, serving: Serving) -> None:
    async with serving(with_models) as gateway:
        listed = {each["id"]: each["coe"] for each in (await gateway.http.get("/v1/models")).json()["data"]}
    assert (listed["e5"]["task"], listed["law"]["task"]) == ("embed", "generate")
    assert "task" not in listed["coe"]


async def test_models_take_turns_on_the_device_with_the_other_experts(
    with_models: Settings, serving: Serving
) -> None:
    """It holds two of the seven."""
    async with serving(with_models) as gateway:
        asked = [
            gateway.http.post(URL, json={"model": name, "input": f"{number}"})
            for number in range(5)
            for name in ("e5", "bge")
        ]
        asked += [gateway.post(model=name, max_tokens=2) for name in ("law", "math", "coding")]
        answers = await asyncio.gather(*asked)
        tiers = (await gateway.http.get("/v1/models")).json()["data"]
    assert [answer.status_code for answer in answers] == [200] * 13
    assert {answer.json()["model"] for answer in answers} == {"e5", "bge", "law", "math", "coding"}
    assert sum(each["coe"].get("tier") == "device" for each in tiers) <= 2


async def test_a_keys_limits_count_what_is_embedded(with_models: Settings, serving: Serving) -> None:
    limited = KeyConfig(key="secret", name="team", models=("e5",), tokens_per_minute=10)  # type: ignore[arg-type]
    async with serving(changed(with_models, api_keys=(limited,))) as gateway:

        async def post(model: str, given: Any) -> httpx.Response:
            body, key = {"model": model, "input": given}, {"authorization": "Bearer secret"}
            return await gateway.http.post(URL, json=body, headers=key)

        forbidden = await post("bge", "one")
        first = await post("e5", [[1, 2, 3], [4, 5, 6]])
        second = await post("e5", [1, 2, 3, 4, 5])
    assert [answer.status_code for answer in (forbidden, first, second)] == [404, 200, 429]


async def test_a_batch_is_embedded_grouped_by_model(
    with_models: Settings, serving: Serving, tmp_path: Path
) -> None:
    lines = [
        {
            "custom_id": f"{name}-{number}",
            "method": "POST",
            "url": URL,
            "body": {"model": name, "input": f"{number}"},
        }
        for number in range(3)
        for name in ("e5", "bge", "law", "coe")
    ]
    async with serving(with_batches(with_models, tmp_path)) as gateway, client_of(gateway.url) as sdk:
        batch = await ended(sdk, (await submitted(sdk, lines, URL)).id)
        done = lines_of(await text_of(sdk, batch.output_file_id))
        failed = lines_of(await text_of(sdk, batch.error_file_id))
        online = (await gateway.http.post(URL, json={"model": "bge", "input": "2"})).json()
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 12, "completed": 9, "failed": 3}
    assert done["bge-2"]["response"]["body"]["data"] == online["data"]
    assert done["coe-2"]["response"]["body"]["model"] == "coe"
    assert {line["response"]["body"]["error"]["code"] for line in failed.values()} == {
        "unsupported_capability"
    }
    assert batch.usage is not None
    assert batch.usage.input_tokens == 6 + 3 * 3  # the router counts its two marks


async def test_a_router_that_chooses_an_embedding_model_is_refused(with_models: Settings) -> None:
    """As its artifact says: a mapping is looked at with the rest of the configuration."""
    experts = with_models.experts
    wrong = with_models.model_copy(update={"experts": {**experts, "law": experts["e5"]}})
    with pytest.raises(
        SettingsError, match=r"coe: its router chooses law, which gives embeddings .*coe\.mapping, or"
    ):
        load_routers(wrong)


async def test_one_in_a_process_of_its_own_answers_alike(with_models: Settings, serving: Serving) -> None:
    family = with_models.families["vectors"]
    apart = family.model_copy(update={"simulation": SimulationConfig(tokens_per_s=2000, process=True)})
    in_process = with_models.model_copy(update={"families": {**with_models.families, "vectors": apart}})
    answers = []
    for settings in (with_models, in_process):
        async with serving(settings) as gateway:
            answer = await gateway.http.post(URL, json={"model": "bge", "input": TEXTS})
            answers.append(json.loads(answer.content)["data"])
    assert answers[0] == answers[1]


async def test_texts_are_ordered_and_scored_by_an_embedding_model(
    with_models: Settings, serving: Serving
) -> None:
    aliased = with_models.model_copy(update={"aliases": {"rerank-*": "e5"}})
    texts = ["one", "two", "three"]
    async with serving(aliased) as gateway:

        async def asked(path: str, **body: Any) -> httpx.Response:
            return await gateway.http.post(path, json=body)

        ranked = await asked("/v2/rerank", model="rerank-v3.5", query="two", documents=texts, top_n=2)
        assert ranked.status_code == 200, ranked.text
        assert (ranked.json()["model"], ranked.headers["x-coe-expert"]) == ("rerank-v3.5", "e5")
        first, second = ranked.json()["results"]
        assert (first["index"], first["document"]) == (1, {"text": "two"})
        assert first["relevance_score"] == pytest.approx(1.0)
        assert second["relevance_score"] < 0.9
        scored = await asked("/v1/score", model="e5", queries="two", documents=texts)
        scores = [each["score"] for each in scored.json()["data"]]
        assert scores.index(max(scores)) == 1
        for model, says in {"coe": "composition", "law": "gives no embeddings"}.items():
            refused = await asked("/v1/rerank", model=model, query="two", documents=texts)
            assert refused.json()["error"]["code"] == "unsupported_capability"
            assert says in refused.json()["error"]["message"]
        many = await asked("/v1/rerank", model="e5", query="a", documents=["b"] * 3000)
        assert many.json()["error"]["param"] == "documents"


async def test_what_no_expert_does_is_refused_with_what_there_is(
    settings: Settings, serving: Serving
) -> None:
    async with serving(settings) as gateway, client(gateway.url) as openai_client:
        with pytest.raises(openai.BadRequestError, match="No speech is made") as audio:
            await openai_client.audio.speech.create(model="tts-1", voice="alloy", input="hello")
        with pytest.raises(openai.BadRequestError, match="No speech is made"):
            await openai_client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF"))
        with pytest.raises(openai.BadRequestError, match="No pictures are made"):
            await openai_client.images.generate(model="dall-e-3", prompt="a cat")
        assert audio.value.code == "unsupported_capability"
