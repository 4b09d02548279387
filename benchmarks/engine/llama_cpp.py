"""The rival llama.cpp: llama-cpp-python's server with several models, of which it holds one at a time."""

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from benchmarks.engine.asking import PATH, Reading, Served, body
from benchmarks.engine.rival import LLAMA_CPP, Switching, session_bytes
from benchmarks.engine.workload import Question
from experts.engines.process import EngineProcess
from experts.errors import EngineLost, EngineStartFailed, EngineUnavailable
from experts.spec import Expert

START_TIMEOUT_S = 300.0


class LlamaCpp:
    """Server of llama-cpp-python. ``python``: an interpreter that can import ``llama_cpp.server``. ``model``:
    a GGUF file, which stands for every expert under its name (a change of model reads it anew, whatever is in
    it)."""

    name = LLAMA_CPP
    fewest = 2

    def __init__(self, python: Path | None, model: Path | None, context: int, logs: Path) -> None:
        self._python = python
        self._model = model
        self._context = context
        self._logs = logs / "llama-cpp"
        self._experts: dict[str, Expert] = {}
        self._process: EngineProcess | None = None
        self._session: aiohttp.ClientSession | None = None

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        if self._python is None:
            return "no interpreter with llama_cpp was named (--llama-python)"
        if self._model is None:
            return "no GGUF file was named (--llama-model)"
        if not self._model.is_file():
            return f"no file {self._model} (--llama-model)"
        try:
            done = subprocess.run(
                [self._python, "-c", "import llama_cpp.server.app"], capture_output=True, check=False
            )
        except OSError as error:
            return f"{self._python}: {error.strerror}"
        return None if done.returncode == 0 else f"{self._python} cannot import llama_cpp.server"

    async def hold(self, experts: Sequence[Expert]) -> None:
        await self.stop()
        self._experts = {expert.name: expert for expert in experts}
        port = _free_port()
        settings = self._logs / "models.json"
        self._logs.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(self._settings(port)), encoding="utf-8")
        command = [str(self._python), "-m", "llama_cpp.server", "--config_file", str(settings.absolute())]
        self._process = await EngineProcess.launch(command, {}, self._logs / "server.log")
        self._session = aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._until_ready(self._process, self._session)
        except TimeoutError:
            raise EngineStartFailed(f"llama_cpp.server is not ready after {START_TIMEOUT_S} s") from None

    async def serve(self, question: Question, tokens: int) -> Served:
        assert self._session is not None, "hold comes first"
        asked = time.perf_counter()
        expert = self._experts[question.expert]
        # It has no ignore_eos: tokens that end an answer are made impossible instead.
        no_end = {str(token): -100.0 for token in expert.generation.stop_token_ids}
        wanted = {**body(question, expert, tokens), "model": expert.name, "logit_bias": no_end}
        reading = Reading()
        try:
            async with self._session.post(PATH, json=wanted) as response:
                if response.status != 200:
                    text = (await response.text())[:300]
                    raise EngineLost(f"llama_cpp.server answers {response.status}: {text}")
                async for received in response.content.iter_any():
                    reading.feed(received, time.perf_counter())
        except aiohttp.ClientError as error:
            raise EngineUnavailable(f"llama_cpp.server went away: {error}") from error
        return reading.served(asked)

    async def switching(self) -> Switching:
        return Switching()  # it does not tell

    def memory_bytes(self) -> int:
        return session_bytes(self._process.pid) if self._process is not None else 0

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            await self._process.stop()
        self._session = self._process = None

    def _settings(self, port: int) -> dict[str, object]:
        """Returns the server's settings: it queues requests instead of cutting an answer off when another one
        arrives, its default."""
        one = {"model": str(self._model), "n_ctx": self._context, "verbose": False}
        models = [{**one, "model_alias": name} for name in self._experts]
        return {"host": "127.0.0.1", "port": port, "interrupt_requests": False, "models": models}

    async def _until_ready(self, process: EngineProcess, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                async with session.get("/v1/models") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if not process.running:
                raise EngineStartFailed(f"llama_cpp.server did not start: {await process.ended()}")
            await asyncio.sleep(0.2)

    def __repr__(self) -> str:
        return f"<LlamaCpp {self._process!r}>"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
