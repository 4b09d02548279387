"""Ollama's client for Python, and llm's plugin for it, in a session against ``BASE_URL``."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import ollama

URL = os.environ["BASE_URL"]
client = ollama.Client(host=URL)
HELLO = [{"role": "user", "content": "Say hello."}]

whole = client.chat("coe", HELLO, options={"num_predict": 8})
assert whole.message.content
assert whole.eval_count
pieces = list(client.chat("coe:latest", HELLO, stream=True, options={"num_predict": 8}))
assert pieces[-1].done
assert "".join(piece.message.content or "" for piece in pieces)
assert client.generate("coe", "Say hello.", options={"num_predict": 8}).response
assert len(client.embed("coe", ["a text", "another"]).embeddings) == 2
assert "coe:latest" in {model.model for model in client.list().models}
assert client.show("coe").capabilities
with contextlib.suppress(ollama.ResponseError):
    client.pull("llama3")
    sys.exit("a model was pulled")

llm = str(Path(sys.executable).with_name("llm"))
environment = {**os.environ, "OLLAMA_HOST": URL, "LLM_USER_PATH": os.environ["HOME"]}
asked = [llm, "-m", "ollama/coe", "-o", "num_predict", "8", "Say hello."]
done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False, timeout=120)
assert done.returncode == 0, done.stderr
assert done.stdout.strip()
