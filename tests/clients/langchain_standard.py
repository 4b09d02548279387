"""LangChain's own conformance suites over the gateway, run by pytest in .venv-clients.

What fails strictly is what a model of 135 million parameters cannot: docs/guides/clients.md. It rarely ends
by itself: an answer that has to be whole gets ``WHOLE`` tokens, any other ``SHORT``.
"""

from typing import Any

import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

from tests.clients.checks import API, EMBEDDER, KEY, MODEL

WHOLE, SHORT = 100, 24
NEED_WHOLE = ("structured", "json", "tool", "agent")
"""In the names of tests that read more of an answer than that it is there."""


def cannot(reason: str) -> pytest.MarkDecorator:
    """Of SmolLM2-135M, at temperature 0."""
    return pytest.mark.xfail(reason=reason, strict=True)


class TestChatOpenAI(ChatModelIntegrationTests):
    @pytest.fixture
    def model(self, request: pytest.FixtureRequest) -> ChatOpenAI:
        whole = any(word in request.node.name for word in NEED_WHOLE)
        own = {"max_tokens": WHOLE if whole else SHORT} | getattr(request, "param", {})
        return ChatOpenAI(**{**self.standard_chat_model_params, **self.chat_model_params, **own})

    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": MODEL, "base_url": API, "api_key": KEY, "max_retries": 0, "temperature": 0,
            "stream_usage": True,
        }  # fmt: skip

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "math"

    @cannot("its jokes do not end")
    def test_structured_output_optional_param(self, model: Any) -> None:
        super().test_structured_output_optional_param(model)

    @cannot("its jokes do not end")
    def test_json_mode(self, model: Any) -> None:
        super().test_json_mode(model)

    @cannot("it calls no tool by itself")
    @pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
    def test_agent_loop(self, model: Any) -> None:
        super().test_agent_loop(model)


class TestOpenAIEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> Any:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": EMBEDDER, "base_url": API, "api_key": KEY, "check_embedding_ctx_length": False}
