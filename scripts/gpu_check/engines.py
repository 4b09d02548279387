"""Checks real vLLM: two experts that take turns in one engine, beside each served by plain vLLM alone."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import torch

from experts.engines import canary
from experts.errors import CanaryFailed
from experts.spec import Canary, Expert, FamilyConfig
from experts.vllm.engine import VllmEngine
from experts.vllm.modes import full_weights_engine
from memory_tiers.driver.host_store import HostStore
from memory_tiers.simulator.profiles import Profile
from scripts.gpu_check.clock import settle
from scripts.gpu_check.outcome import Figure, Outcome

PROMPT = (1, *range(11, 31))
TOKENS = 16
STREAMS = 16
LONG = 96
"""Tokens of the streams that run beside a load and between switches."""
RATE_AIM, GAP_AIM_S, SWITCH_AIM_S, START_AIM_S, FIRST_TOKEN_AIM_S = 0.8, 0.05, 1e-3, 30.0, 0.5
DEATH_S = 60.0
KEPT_BYTES = 256 * 2**20
"""Most of a GPU's memory that may be missing once an engine has ended."""


@dataclass(frozen=True, slots=True)
class Alone:
    """One expert served by plain vLLM: what it says, the digests of its weights, and seconds of the start."""

    expert: Expert
    digests: Mapping[str, str]
    start_s: float


def check_engines(
    name: str, folders: Sequence[Path], device: torch.device, profile: Profile, logs: Path
) -> Outcome:
    """Serves the two checkpoints in ``folders``, each alone and then both in one engine."""
    return asyncio.run(_Check(name, device, profile, logs).run(folders))


class _Check:
    def __init__(self, name: str, device: torch.device, profile: Profile, logs: Path) -> None:
        self._name = name
        self._device = device
        self._profile = profile
        self._logs = logs
        self._wrong: list[str] = []
        self._figures: list[Figure] = []

    async def run(self, folders: Sequence[Path]) -> Outcome:
        before = self._free()
        alone = [await self._alone(_expert(key, folder)) for key, folder in zip("ab", folders, strict=True)]
        if alone[0].expert.canary == alone[1].expert.canary:
            self._wrong.append("the two checkpoints say the same: nothing would be found")
        with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
            host = HostStore(Path(root))
            try:
                await self._together(alone, host)
                if self._device.type == "cuda":  # on CPU vLLM schedules no step ahead
                    await self._ahead(alone, host)
            finally:
                host.close()
        kept = before - self._free()
        if self._device.type == "cuda":
            self._figures.append(
                Figure("memory kept after the engines", kept / 2**20, "MiB", KEPT_BYTES / 2**20)
            )
        if kept > KEPT_BYTES:
            self._wrong.append(f"{kept:,} bytes of the GPU are not free after the engines have ended")
        return Outcome(self._name, tuple(self._wrong), tuple(self._figures))

    async def _alone(self, expert: Expert) -> Alone:
        async with self._started("plain", expert) as (engine, seconds):
            answer = orjson.loads(await _asked(engine, expert.name, _body(TOKENS, logprobs=1)))
            found = answer["choices"][0]["logprobs"]
            tokens = tuple(int(token.removeprefix("token_id:")) for token in found["tokens"])
            said = Canary(PROMPT, tokens, tuple(found["token_logprobs"]))
            return Alone(replace(expert, canary=said), await _digests(engine), seconds)

    async def _together(self, alone: Sequence[Alone], host: HostStore) -> None:
        a, b = (each.expert for each in alone)
        async with self._started("interleaved", a) as (engine, seconds):
            aim = START_AIM_S if self._device.type == "cuda" else None
            self._figures.append(Figure("start of plain vLLM", alone[0].start_s, "s", aim))
            self._figures.append(Figure("start of the engine", seconds, "s", aim))
            await self._load(engine, b, host, "from its checkpoint")
            await engine.unload(b.name)
            await self._load(engine, b, host, "from its image, first")
            await engine.unload(b.name)
            await self._load(engine, b, host, "from its image", judged=True)
            await self._first_token(engine, b, host)
            for each in alone:
                await self._right(engine, each, alone)
            await self._in_turns(engine, alone)
            await self._killed(engine)

    async def _ahead(self, alone: Sequence[Alone], host: HostStore) -> None:
        """Has both take turns where steps are scheduled before the one in front has ended."""
        a, b = (each.expert for each in alone)
        async with self._started("interleaved", a, "--async-scheduling") as (engine, _):
            await engine.load(b, b.folder, host.images(b.name))
            await self._in_turns(engine, alone, ", scheduled ahead")

    async def _killed(self, engine: VllmEngine) -> None:
        """Ends the process that computes as the system would. What is left of its memory is seen later."""
        process = engine.server.process
        os.kill(next(pid for pid in process.pids if pid != process.pid), signal.SIGKILL)
        try:
            async with asyncio.timeout(DEATH_S):
                await engine.died()
        except TimeoutError:
            self._wrong.append(f"{DEATH_S:.0f} s after a process was killed the engine is {engine.state}")

    async def _load(
        self, engine: VllmEngine, expert: Expert, host: HostStore, how: str, *, judged: bool = False
    ) -> None:
        """Loads beside streams of the other expert, whose longest gap is noted."""
        gaps: list[float] = []
        streams = [asyncio.create_task(_streamed(engine, "a", LONG, gaps)) for _ in range(STREAMS)]
        await asyncio.sleep(0)
        begun = time.perf_counter()
        await engine.load(expert, expert.folder, host.images(expert.name))
        seconds = time.perf_counter() - begun
        await asyncio.gather(*streams)
        on_gpu = self._device.type == "cuda" and judged
        rate = RATE_AIM * self._profile.link_bytes_per_s / 1e9 if on_gpu else None
        self._figures.append(Figure(f"load {how}", expert.weights_bytes / seconds / 1e9, "GB/s", rate))
        aim = GAP_AIM_S * 1e3 if on_gpu else None
        self._figures.append(Figure(f"longest gap of {STREAMS} streams, {how}", max(gaps) * 1e3, "ms", aim))

    async def _first_token(self, engine: VllmEngine, expert: Expert, host: HostStore) -> None:
        await engine.unload(expert.name)
        begun = time.perf_counter()
        await engine.load(expert, expert.folder, host.images(expert.name))
        await _asked(engine, expert.name, _body(1))
        seconds = time.perf_counter() - begun
        aim = FIRST_TOKEN_AIM_S if self._device.type == "cuda" else None
        self._figures.append(Figure("first token from host", seconds, "s", aim))

    async def _right(self, engine: VllmEngine, one: Alone, alone: Sequence[Alone]) -> None:
        """Compares what an expert computes, and the weights it computes with, with plain vLLM's."""
        name = one.expert.name
        if (failed := await _fails(engine, name, one.expert.canary)) is not None:
            self._wrong.append(f"{name} does not say what plain vLLM says: {failed}")
        if await _digests(engine) != one.digests:
            self._wrong.append(f"the weights of {name} are not those that plain vLLM computes with")
        other = next(each.expert for each in alone if each is not one)
        if await _fails(engine, name, other.canary) is None:
            self._wrong.append(f"{name} says what {other.name} says: this check would find nothing")

    async def _in_turns(self, engine: VllmEngine, alone: Sequence[Alone], how: str = "") -> None:
        """Has streams of both experts alternate while each is asked for what it says alone."""
        before = await engine.statistics()
        begun = time.perf_counter()
        streams = [_streamed(engine, "ab"[number % 2], LONG, []) for number in range(STREAMS)]
        asked = [_fails(engine, each.expert.name, each.expert.canary) for each in alone]
        *failures, _ = await asyncio.gather(*asked, asyncio.gather(*streams))
        seconds = time.perf_counter() - begun
        after = await engine.statistics()
        for each, failed in zip(alone, failures, strict=True):
            if failed is not None:
                self._wrong.append(
                    f"in turns{how} {each.expert.name} does not say what it says alone: {failed}"
                )
        switches = after.switches - before.switches
        if switches < 2:
            self._wrong.append(f"the engine switched {switches} times while both had work{how}")
            return
        spent = after.switch_seconds - before.switch_seconds
        aim = SWITCH_AIM_S * 1e3 if self._device.type == "cuda" else None
        self._figures.append(Figure(f"a switch as reported{how}", spent / switches * 1e3, "ms", aim))
        self._figures.append(Figure(f"switches{how}", switches, ""))
        self._figures.append(Figure(f"tokens of both in turns{how}", STREAMS * LONG / seconds, "tokens/s"))

    @asynccontextmanager
    async def _started(
        self, mode: str, expert: Expert, *more: str
    ) -> AsyncIterator[tuple[VllmEngine, float]]:
        on_gpu = self._device.type == "cuda"
        config = FamilyConfig.model_validate(
            {
                "mode": mode,
                "dtype": "bfloat16" if on_gpu else "float32",
                "max_model_len": 512,
                "kv_cache": "4GiB" if on_gpu else "64MiB",
                "max_num_seqs": 2 * STREAMS,
                "extra_args": ["--gpu-memory-utilization", "0.85", *more] if on_gpu else [],
            }
        )
        engine = full_weights_engine(f"check-{mode}", config, self._logs)
        if engine.mode != mode:
            self._wrong.append(f"mode {mode} is not to be had here: {engine!r}")
        try:
            begun = time.perf_counter()
            await engine.start(expert, expert.folder)
            yield engine, time.perf_counter() - begun
        finally:
            await engine.stop()

    def _free(self) -> int:
        if self._device.type != "cuda":
            return 0
        settle(self._device)
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self._device)[0])


def _expert(name: str, folder: Path) -> Expert:
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Expert(name, "check", folder, size, size // 2, "", "")


def _body(tokens: int, **more: Any) -> dict[str, Any]:
    fixed = {"temperature": 0, "ignore_eos": True, "return_tokens_as_token_ids": True}
    return {"prompt": list(PROMPT), "max_tokens": tokens, **fixed, **more}


async def _asked(engine: VllmEngine, expert: str, body: Mapping[str, Any]) -> bytes:
    """Raises RuntimeError where the engine answers with an error."""
    answer = await engine.request(expert, canary.PATH, body)
    try:
        whole = b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.close()
    if answer.status != 200:
        raise RuntimeError(f"the engine answers {answer.status}: {whole.decode()[:500]}")
    return whole


async def _streamed(engine: VllmEngine, expert: str, tokens: int, gaps: list[float]) -> None:
    """Streams an answer, and notes the longest time between two of its pieces."""
    answer = await engine.request(expert, canary.PATH, _body(tokens, stream=True))
    longest, before = 0.0, None
    try:
        async for _ in answer.chunks():
            now = time.perf_counter()
            longest = max(longest, 0.0 if before is None else now - before)
            before = now
    finally:
        await answer.close()
    gaps.append(longest)


async def _fails(engine: VllmEngine, expert: str, said: Canary | None) -> str | None:
    """Asks ``expert`` for what another engine said; why it does not say it, or None."""
    answer = await _asked(engine, expert, canary.question(said))
    try:
        canary.check(said, 200, answer, engine.dtype)
    except CanaryFailed as error:
        return str(error)
    return None


async def _digests(engine: VllmEngine) -> dict[str, str]:
    """Digests of the weights that the model computes with now, by vLLM itself. On CPU matrices that are
    packed for its kernels are not among them."""
    body = await engine.server.command("/collective_rpc", {"method": "compute_weight_checksums"})
    (found,) = orjson.loads(body)["results"]
    return {name: digest for name, digest in found.items() if digest is not None}
