"""LangChain's own conformance suites over the gateway, run by pytest in .venv-clients.

What fails strictly is what a model of 135 million parameters cannot: docs/clients.md.
"""

from typing import Any

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

from tests.clients.checks import API, EMBEDDER, KEY, MODEL


class TestChatOpenAI(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": MODEL, "base_url": API, "api_key": KEY, "max_retries": 0, "max_tokens": 100,
            "temperature": 0, "stream_usage": True,
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


class TestOpenAIEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> Any:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": EMBEDDER, "base_url": API, "api_key": KEY, "check_embedding_ctx_length": False}
