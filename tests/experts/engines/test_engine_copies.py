"""The CUDA ways of images in real vLLM on CPU: read beside the model, kept in a file, uploaded as one block,
then copied into the model's tensors or pointed at.

vLLM's own digests of its weights say whether an expert that was loaded and activated is the one that vLLM
reads when it starts with it.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from experts.engines.nursery import Nurseries
from experts.spec import Expert, FamilyConfig
from experts.vllm.interleaved import InterleavedEngine
from memory_tiers.driver.host_store import HostStore
from tests.experts.engines.real_engine import NOISE, Said, ask, expert_at, said_alone
from tests.plain_vllm import PlainVllm

pytestmark = pytest.mark.engine
PROMPT = "How do I sort a list in Python?"
TOKENS = 8
Digests = Mapping[str, str]


class UploadingEngine(InterleavedEngine):
    worker = "UploadingWorker"

    def _command(self, config: FamilyConfig, expert: Expert, weights: Path) -> list[str]:
        ours, module = "experts.inside_vllm.worker.ExpertWorker", "tests.experts.engines.copying_worker"
        words = super()._command(config, expert, weights)
        return [f"{module}.{self.worker}" if word == ours else word for word in words]

    async def digests(self) -> Digests:
        """Digest of the weights that the model computes with now."""
        body = await self.server.command("/collective_rpc", {"method": "compute_weight_checksums"})
        (found,) = orjson.loads(body)["results"]
        return {name: digest for name, digest in found.items() if digest is not None}


class CopyingEngine(UploadingEngine):
    worker = "CopyingWorker"


@asynccontextmanager
async def started(
    expert: Expert, logs: Path, nurseries: Nurseries, kind: type[UploadingEngine] = CopyingEngine
) -> AsyncIterator[UploadingEngine]:
    sizes = {"dtype": "float32", "max_model_len": 256, "kv_cache": "64MiB", "max_num_seqs": 8}
    engine = kind("copying", FamilyConfig.model_validate(sizes), logs, nurseries=nurseries)
    try:
        await engine.start(expert, expert.folder)
        yield engine
    finally:
        await engine.stop()


@pytest.fixture
def host() -> Iterator[HostStore]:
    host = HostStore()
    yield host
    host.close()


async def test_an_uploaded_expert_has_the_weights_that_vllm_reads_and_says_what_vllm_says(
    store: Path, plain: PlainVllm, nurseries: Nurseries, tmp_path: Path, host: HostStore
) -> None:
    general, math = (expert_at(name, store / name) for name in ("general", "math"))
    wanted: dict[str, Said] = {
        expert.name: said_alone(plain, expert, [PROMPT], TOKENS)[0] for expert in (general, math)
    }
    async with started(math, tmp_path, nurseries) as engine:
        of_math = await engine.digests()
    for kind in (CopyingEngine, UploadingEngine):
        async with started(general, tmp_path, nurseries, kind) as engine:
            of_general = await engine.digests()
            assert len(of_general) > 100
            differ = {name for name, digest in of_general.items() if digest != of_math[name]}
            assert len(differ) > 60, "most matrices of a fine-tune are its own"
            for images in (None, host.images("math"), host.images("math")):
                await engine.load(math, math.folder, images)
                for name, digests in (("math", of_math), ("general", of_general)):
                    said = await ask(engine, name, PROMPT, TOKENS)
                    assert said.tokens == wanted[name].tokens
                    assert said.noise(wanted[name]) < NOISE
                    assert await engine.digests() == digests
                await engine.unload("math")
            assert [file.name for file in host.images("math").iterdir()] == ["image-0"]
