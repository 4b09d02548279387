"""The engine core is killed while an expert is on its way: nobody who waits, and nothing kept, is lost.

After ``test_composition.py``, whose gateway has ended by then.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml

from tests.end_to_end.conftest import MAX_TOKENS, PROMPTS, GatewayProcess, serving
from tests.end_to_end.test_composition import eventually

pytestmark = pytest.mark.engine

DISK = 'coe_move_seconds_count{from_tier="disk"'
CUT_OFF = 'coe_move_seconds_count{from_tier="host",outcome="failed",reason="ticket",to_tier="device"}'
RESTORED = 'coe_move_seconds_count{from_tier="host",outcome="done",reason="preload",to_tier="device"}'


@pytest.fixture
def gateway(configuration: Path, alone: object, tmp_path: Path) -> Iterator[GatewayProcess]:
    """Room for three experts on the device and for all that is made of them on the host; loads in slices so
    small that they last."""
    tree = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    tree["logs"] = str(tmp_path / "logs")
    tree["tiers"] |= {"device": "2000MB", "host": "4000MB"}
    tree["families"]["smollm2-135m"] |= {"max_stall_ms": 0.1}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    with serving(file, tmp_path / "stderr.log") as gateway:
        yield gateway


def test_a_request_that_waits_for_an_expert_outlives_the_engine_and_so_do_the_images(
    gateway: GatewayProcess, alone: Mapping[tuple[str, str], str]
) -> None:
    for expert in ("general", "math"):
        assert asked(gateway, expert) == alone[expert, PROMPTS[0]]
    image = host_file(gateway, "images-math/image-0").stat()
    core = engine_core(gateway)
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(asked, gateway, "coding")
        eventually(lambda: reads(core, "expert-coding/model.safetensors"), "coding is being loaded")
        core.kill()
        from_disk = gateway.total(DISK)
        assert waiting.result() == alone["coding", PROMPTS[0]]

    assert gateway.total("coe_engine_deaths_total") == 1
    assert gateway.series()[CUT_OFF] == 1
    three = ("general", "math", "coding")
    eventually(lambda: all(tier(gateway, expert) == "device" for expert in three), "all three are back")
    assert gateway.series()[RESTORED] == 2
    assert gateway.total(DISK) == from_disk, "what came back came from the host"
    left = host_file(gateway, "images-math/image-0").stat()
    assert (left.st_ino, left.st_mtime_ns) == (image.st_ino, image.st_mtime_ns), "read, not written"
    for expert in three:
        assert asked(gateway, expert) == alone[expert, PROMPTS[0]]


def asked(gateway: GatewayProcess, expert: str) -> str:
    answer = gateway.client().chat.completions.create(
        model=expert,
        messages=[{"role": "user", "content": PROMPTS[0]}],
        temperature=0,
        max_tokens=MAX_TOKENS,
    )
    return answer.choices[0].message.content or ""


def tier(gateway: GatewayProcess, expert: str) -> str:
    """The fastest that holds it."""
    model = gateway.client().models.retrieve(expert).model_dump()
    return str(model["coe"]["tier"])


def engine_core(gateway: GatewayProcess) -> psutil.Process:
    (core,) = [each for each in gateway.descendants() if "EngineCore" in " ".join(each.cmdline())]
    return core


def reads(process: psutil.Process, file: str) -> bool:
    return file in Path(f"/proc/{process.pid}/maps").read_text()


def host_file(gateway: GatewayProcess, name: str) -> Path:
    """A file of the gateway's host tier."""
    (file,) = Path("/dev/shm").glob(f"coe-host-{gateway.process.pid}-*/{name}")
    return file
