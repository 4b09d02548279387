"""Semantic Kernel's chat completion, whole and streamed, in a session against ``BASE_URL``."""

import asyncio
import os

from openai import AsyncOpenAI
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import ChatHistory


async def main() -> None:
    client = AsyncOpenAI(base_url=f"{os.environ['BASE_URL']}/v1", api_key="none")
    service = OpenAIChatCompletion(ai_model_id="coe", async_client=client)
    history, limits = ChatHistory(), OpenAIChatPromptExecutionSettings(max_tokens=8)
    history.add_user_message("Say hello.")
    assert str(await service.get_chat_message_content(history, limits))
    pieces = [str(piece) async for piece in service.get_streaming_chat_message_content(history, limits)]
    assert "".join(pieces)


asyncio.run(main())
