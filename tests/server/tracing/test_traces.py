"""Requests and moves as OpenTelemetry's spans, sent to a receiver of the protocol's own protobufs."""

import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from experts.engines.engine import NO_HEADERS, Body
from experts.simulated.engine import SimulatedEngine
from experts.simulated.response import SimulatedResponse
from experts.spec import Expert
from server.config.settings import Settings, SettingsError
from server.tracing.providers import providers
from tests.server.conftest import Gateway, Serving
from tests.server.tracing.otlp_receiver import Received, attributes, receiving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


def traced(settings: Settings) -> Settings:
    observed = settings.observation.model_copy(update={"opentelemetry": True})
    return settings.model_copy(update={"observation": observed})


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    with receiving() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway-of-a-test")
        yield received


def named(received: Received, name: str) -> list[Span]:
    return [span for span in received.spans if span.name == name]


async def asked(gateway: Gateway) -> None:
    body = {"model": "coe", "stream": True, "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
    answer = await gateway.http.post("/v1/chat/completions", json=body, headers=SAMPLED)
    assert answer.status_code == 200
    assert (await gateway.post(model="nobody")).status_code == 404


async def test_a_request_is_a_span_of_its_clients_trace_with_its_phases_and_moves(
    serving: Serving, settings: Settings, received: Received
) -> None:
    async with serving(traced(settings)) as gateway:
        await asked(gateway)
        story = next(iter(gateway.services.observer.stories))
    (request,) = named(received, "chat coe")
    assert received.services == {"gateway-of-a-test"}
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert request.kind == Span.SPAN_KIND_SERVER
    said = attributes(request.attributes)
    assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("coe", story.expert)
    assert said["gen_ai.operation.name"] == "chat"
    assert int(said["gen_ai.usage.output_tokens"]) == story.tokens.completion_tokens > 0
    assert said["coe.request.id"] == story.id
    assert story.trace_id == TRACE
    children = [span for span in received.spans if span.parent_span_id == request.span_id]
    assert [span.name for span in children] == [
        "admit",
        "route",
        "wait",
        "load",
        "queue",
        "prefill",
        "decode",
    ]
    for child, follower in itertools.pairwise(children):
        assert child.end_time_unix_nano == pytest.approx(follower.start_time_unix_nano, abs=1000)
    assert children[-1].end_time_unix_nano == pytest.approx(request.end_time_unix_nano, abs=1000)
    moves = {span.span_id: attributes(span.attributes) for span in named(received, "move")}
    linked = [moves[link.span_id] for link in request.links]
    assert ("host", "device") in {(move["coe.move.from"], move["coe.move.to"]) for move in linked}
    assert {move["coe.expert"] for move in linked} >= {story.expert}
    (refused,) = named(received, "chat nobody")
    assert attributes(refused.attributes)["error.type"] == "404"
    assert refused.status.code == Status.STATUS_CODE_UNSET  # the client's error is none of the server's


async def test_the_metrics_have_the_conventions_names(
    serving: Serving, settings: Settings, received: Received
) -> None:
    async with serving(traced(settings)) as gateway:
        await asked(gateway)
    assert received.metrics.keys() == {
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
        "gen_ai.client.token.usage",
    }
    (point,) = received.metrics["gen_ai.server.request.duration"].histogram.data_points
    assert point.count == 1  # the one that an expert answered
    assert attributes(point.attributes)["gen_ai.request.model"] == "coe"
    tokens = received.metrics["gen_ai.client.token.usage"].histogram.data_points
    assert {attributes(each.attributes)["gen_ai.token.type"] for each in tokens} == {"input", "output"}


async def test_a_sampler_of_the_variables_is_obeyed(
    serving: Serving, settings: Settings, received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with serving(traced(settings)) as gateway:
        await asked(gateway)
    assert received.spans == []
    assert received.metrics


async def test_nothing_is_sent_where_it_is_off(
    serving: Serving, settings: Settings, received: Received
) -> None:
    async with serving(settings) as gateway:
        await asked(gateway)
        assert gateway.services.traces is None
    assert (received.spans, received.metrics) == ([], {})


def test_where_it_is_off_nothing_of_it_is_loaded() -> None:
    gateway = "import sys, server.compose, server.serve; print('opentelemetry' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", gateway], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


class Told(SimulatedEngine):
    """Notes the headers of requests."""

    headers: ClassVar[list[Mapping[str, str]]] = []

    async def request(
        self, expert: str, path: str, body: Body, headers: Mapping[str, str] = NO_HEADERS
    ) -> SimulatedResponse:
        self.headers.append(headers)
        return await super().request(expert, path, body, headers)


async def test_an_engine_is_told_the_trace(serving: Serving, settings: Settings, received: Received) -> None:
    def told(family: str, settings: Settings, experts: Iterable[Expert]) -> Told:
        return Told(family, settings.families[family].simulation)

    async with serving(traced(settings), engine_of=told) as gateway:
        await asked(gateway)
    (headers,) = Told.headers
    (span,) = named(received, "chat coe")
    assert headers == {"traceparent": f"00-{TRACE}-{span.span_id.hex()}-01"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "there are otlp, console and none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "there are http/protobuf, grpc"),
    ],
)
def test_a_variable_with_a_wrong_value_is_one_line(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says):
        providers()


def test_the_sdk_is_off_by_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert providers() is None
