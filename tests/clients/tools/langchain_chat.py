"""LangChain's package for Ollama, in a session against ``BASE_URL``."""

import os

from langchain_ollama import ChatOllama, OllamaEmbeddings

URL = os.environ["BASE_URL"]
model = ChatOllama(model="coe", base_url=URL, num_predict=8, validate_model_on_init=True)
answer = model.invoke("Say hello.")
assert answer.content
assert answer.usage_metadata["output_tokens"]
assert "".join(str(piece.content) for piece in model.stream("Say hello."))
assert OllamaEmbeddings(model="coe", base_url=URL).embed_query("a text")
