"""A router is trained or mapped anew in the folder that is served, and a reload takes it over."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from router.artifacts.manifest import MANIFEST
from router.router import Router
from server.cli.main import main
from server.config.settings import Settings
from server.errors import ReloadRefused
from tests.server.conftest import ROOT, Gateway, Serving, chat, until

MATHS = [{"role": "user", "content": "What is the integral of x^2?"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "router" / "embedded", tmp_path / "artifact"))


@pytest.fixture
def served(settings: Settings, folder: Path) -> Settings:
    composition = settings.compositions["coe"].model_copy(update={"artifact": folder})
    return settings.model_copy(update={"compositions": {"coe": composition}})


def map_anew(folder: Path, expert: str) -> None:
    """What ``coe router train`` and ``coe router map`` do with ``--out``: maths goes to ``expert``."""
    router = Router.load(folder)
    router.with_mapping({"general": "general", "math": expert}).artifact.write(folder)


async def expert_for_maths(gateway: Gateway) -> str:
    answer = await gateway.post(model="coe", messages=MATHS, max_tokens=3)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-coe-expert"]


async def by_call(gateway: Gateway) -> None:
    await gateway.reload.now()


async def by_request(gateway: Gateway) -> None:
    assert (await gateway.http.post("/v1/coe/reload")).status_code == 200


async def by_command(gateway: Gateway) -> None:
    config = ROOT / "configs" / "embedded.yaml"
    arguments = ["reload", "--url", gateway.url, "--config", str(config)]
    assert await asyncio.to_thread(main, arguments) == 0


@pytest.mark.parametrize("reload", [by_call, by_request, by_command])
async def test_a_new_map_is_in_force_after_a_reload_and_requests_go_on(
    serving: Serving, served: Settings, folder: Path, reload: Callable[[Gateway], Awaitable[None]]
) -> None:
    async with serving(served) as gateway:
        stop = asyncio.Event()
        seen: list[str] = []

        async def keep_asking() -> None:
            while not stop.is_set():
                seen.append(await expert_for_maths(gateway))

        asking = [asyncio.create_task(keep_asking()) for _ in range(3)]
        body = chat(model="coe", messages=MATHS, stream=True)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.headers["x-coe-expert"] == "math"
            await until(lambda: "math" in seen)
            await asyncio.to_thread(map_anew, folder, "coding")
            await reload(gateway)
            assert await expert_for_maths(gateway) == "coding"
            assert [line async for line in answer.aiter_lines() if line][-1] == "data: [DONE]"
        await until(lambda: "coding" in seen)
        stop.set()
        await asyncio.gather(*asking)
        assert set(seen) == {"math", "coding"}


def cut_arrays(folder: Path) -> None:
    (arrays,) = folder.glob("arrays-*.safetensors")
    arrays.write_bytes(arrays.read_bytes()[:-1])


def no_arrays(folder: Path) -> None:
    (arrays,) = folder.glob("arrays-*.safetensors")
    arrays.unlink()


def half_a_manifest(folder: Path) -> None:
    manifest = folder / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:100])


def another_expert(folder: Path) -> None:
    map_anew(folder, "physics")


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut_arrays, r"arrays-\w+\.safetensors is damaged: sha256"),
        (no_arrays, r"arrays-\w+\.safetensors cannot be read: No such file"),
        (half_a_manifest, r"manifest\.json, the whole: Invalid JSON"),
        (another_expert, r"compositions\.coe: its router chooses physics"),
        (gone, "holds no router"),
    ],
)
async def test_a_damaged_artifact_changes_nothing_and_says_so(
    serving: Serving, served: Settings, folder: Path, spoil: Callable[[Path], None], says: str
) -> None:
    async with serving(served) as gateway:
        spoil(folder)
        with pytest.raises(ReloadRefused, match=f"^Nothing was changed: .*{says}"):
            await gateway.reload.now()
        assert await expert_for_maths(gateway) == "math"


async def test_what_was_decided_by_the_old_router_is_not_remembered(
    serving: Serving, served: Settings, folder: Path
) -> None:
    async with serving(served) as gateway:
        assert [await expert_for_maths(gateway) for _ in range(2)] == ["math", "math"]
        map_anew(folder, "law")
        await gateway.reload.now()
        assert await expert_for_maths(gateway) == "law"
