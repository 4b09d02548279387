"""Two engines of vLLM for one family over one host: both answer as plain vLLM, one outlives the other."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml

from tests.end_to_end.conftest import MAX_TOKENS, PROMPTS, GatewayProcess, serving
from tests.end_to_end.test_composition import eventually

pytestmark = pytest.mark.engine
FIRST, SECOND = "smollm2-135m", "smollm2-135m#2"


@pytest.fixture
def gateway(configuration: Path, alone: object, tmp_path: Path) -> Iterator[GatewayProcess]:
    """Room for two experts on each engine."""
    tree = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    tree["logs"] = str(tmp_path / "logs")
    tree["tiers"] |= {"device": "2600MB", "host": "3000MB"}
    small = {"replicas": 2, "kv_cache": "128MiB", "max_num_seqs": 8}
    tree["families"][FIRST] |= small
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    with serving(file, tmp_path / "stderr.log") as gateway:
        yield gateway


def test_two_engines_answer_as_one_and_a_killed_one_takes_nothing_else_along(
    gateway: GatewayProcess, alone: Mapping[tuple[str, str], str]
) -> None:
    eventually(lambda: ready(gateway, FIRST) and ready(gateway, SECOND), "both engines run")
    said_right(gateway, alone, "general", "math")
    assert all(busy(gateway, engine) > 0 for engine in (FIRST, SECOND)), "both have computed"

    cores = [each for each in gateway.descendants() if "EngineCore" in " ".join(each.cmdline())]
    assert len(cores) == 2
    cores[0].kill()
    said_right(gateway, alone, "general", "math")
    assert gateway.total("coe_engine_deaths_total") == 1
    eventually(lambda: ready(gateway, FIRST) and ready(gateway, SECOND), "both engines run again")
    assert gateway.total("coe_engine_start_seconds_count") == 3, "the other was not started again"
    assert cores[1].is_running()
    assert cores[1].status() != psutil.STATUS_ZOMBIE
    said_right(gateway, alone, "general", "math")


def said_right(gateway: GatewayProcess, alone: Mapping[tuple[str, str], str], *experts: str) -> None:
    """Asks for experts at once, and all answer as unmodified vLLM with that expert."""
    with ThreadPoolExecutor(len(experts)) as clients:
        answers = clients.map(lambda expert: asked(gateway, expert), experts)
        assert [*answers] == [alone[expert, PROMPTS[0]] for expert in experts]


def asked(gateway: GatewayProcess, expert: str) -> str | None:
    with gateway.client() as client:
        answer = client.chat.completions.create(
            model=expert,
            messages=[{"role": "user", "content": PROMPTS[0]}],
            temperature=0,
            max_tokens=MAX_TOKENS,
        )
    return answer.choices[0].message.content


def ready(gateway: GatewayProcess, engine: str) -> bool:
    return gateway.total(f'coe_engine_state{{family="{engine}",state="ready"}}') == 1


def busy(gateway: GatewayProcess, engine: str) -> float:
    return gateway.total(f'coe_engine_busy_seconds_total{{family="{engine}"}}')
