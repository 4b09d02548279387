"""``coe router train --embedder endpoint``, and a gateway whose router asks an endpoint."""

import asyncio
import json
from pathlib import Path

import pytest

from router.settings import CompositionConfig
from server.cli.main import main
from server.config.settings import Settings
from tests.router.embedders.scripted_endpoint import failure, scripted
from tests.router.embedders.test_endpoint import hashed
from tests.router.training.test_training import prompts
from tests.server.conftest import Serving

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COE_EMBEDDER_URL", "COE_EMBEDDER_KEY"):
        monkeypatch.delenv(name, raising=False)


def arguments(folder: Path, *more: str) -> list[str]:
    """Trains on cooking and sailing, which go to math and law."""
    data, mapping = folder / "data.jsonl", folder / "mapping.yaml"
    lines = [{"id": e.id, "prompt": e.prompt, "category": e.category} for e in prompts()]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    mapping.write_text("general: general\ncooking: math\nsailing: law\n")
    files = ("--data", str(data), "--mapping", str(mapping), "--out", str(folder / "artifact"))
    return ["router", "train", *files, *more]


def endpoint_options(url: str) -> list[str]:
    sizes = ("--embedder-parameters", "335M", "--embedder-characters", "900")
    return ["--embedder", "endpoint", "--embedder-url", url, "--embedder-model", "e5", *sizes]


async def test_a_gateway_routes_by_an_endpoint_and_says_when_it_is_gone(
    serving: Serving, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted(hashed) as endpoint:
        options = arguments(tmp_path, *endpoint_options(endpoint.url), "--embedder-instruction", "query: ")
        assert await asyncio.to_thread(main, options) == 0
        kept = json.loads((tmp_path / "artifact" / "manifest.json").read_text())["embedder"]["endpoint"]
        assert kept == {
            "url": endpoint.url,
            "model": "e5",
            "instruction": "query: ",
            "characters": 900,
            "parameters_b": 0.335,
        }
        composition = CompositionConfig(artifact=tmp_path / "artifact")
        async with serving(settings.model_copy(update={"compositions": {"coe": composition}})) as gateway:
            asked = [{"role": "user", "content": "butter flour dough sugar whisk oven"}]
            answer = await gateway.post(model="coe", messages=asked)
            assert (answer.status_code, answer.headers["x-coe-expert"]) == (200, "math")
            endpoint.answer = lambda call: failure(401, "no longer")
            assert (await gateway.post(model="coe", messages=asked)).status_code == 200  # is remembered
            unasked = [{"role": "user", "content": "anchor keel reef jib rudder mast"}]
            refused = await gateway.post(model="coe", messages=unasked)
            assert refused.status_code == 503
            assert refused.json()["error"] == {
                "message": "The router's embedder failed. Send the request again; if it goes on, the "
                "gateway's log says why.",
                "type": "server_error",
                "param": None,
                "code": "embedder_error",
            }
            assert "the endpoint of embedder e5 wants a key; set COE_EMBEDDER_KEY (no longer)" in caplog.text
            assert (await gateway.post(model="law")).status_code == 200


def test_one_that_ships_is_chosen_by_name(tmp_path: Path, capsys: Captured) -> None:
    assert main(arguments(tmp_path, "--embedder", "minilm-static-384")) == 0
    assert json.loads((tmp_path / "artifact" / "manifest.json").read_text())["embedder"]["dimension"] == 384
    assert main(arguments(tmp_path, "--embedder", "word2vec")) == 1
    assert "no embedder is called 'word2vec'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--embedder", "endpoint"), "--embedder endpoint needs --embedder-url and --embedder-model"),
        (("--embedder-model", "e5"), "--embedder-model needs --embedder endpoint"),
        (
            (*endpoint_options("http://here"), "--embedder-parameters", "7"),
            "is not a number of parameters such as 31B",
        ),
        ((*endpoint_options("http://here"), "--embedder-characters", "-1"), "-1: it must be over 0"),
        (endpoint_options("here"), "'here' is no address"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: Captured, more: tuple[str, ...], complaint: str
) -> None:
    assert main(arguments(tmp_path, *more)) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("coe: ")
    assert complaint in told
    assert not (tmp_path / "artifact").exists()


def test_a_wrong_key_ends_training_at_once(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COE_EMBEDDER_KEY", "sesame")
    with scripted(lambda call: failure(401, "unknown")) as endpoint:
        assert main(arguments(tmp_path, *endpoint_options(endpoint.url))) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "coe: the endpoint of embedder e5 does not take the key in COE_EMBEDDER_KEY (unknown)"
    assert len(endpoint.calls) == 1
