"""Our own OpenAPI document against the gateway: schemathesis sends what it allows and what it forbids."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.config.settings import Settings
from tests.server.conftest import EXPERTS, Serving, simulated
from tests.server.test_gateway import nothing_is_held

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
"""Not whether all that the document forbids is refused: beyond what we read, that is for the engine."""


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def with_names(document: dict[str, Any]) -> dict[str, Any]:
    """The document for this gateway: with names that exist, since others go no further than a 404."""
    for operation in operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["name"] == "name":
                parameter["schema"]["enum"] = [*EXPERTS]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if "model" in content["schema"].get("properties", {}):
                content["schema"]["properties"]["model"]["enum"] = [*EXPERTS, "coe"]
    del document["paths"]["/v1/coe/events"]  # it does not end
    return document


@pytest.mark.thorough
async def test_the_gateway_does_what_its_document_says(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    async with serving(simulated(settings, tokens_per_s=1e5)) as gateway:
        file = tmp_path / "openapi.json"
        file.write_text(json.dumps(with_names((await gateway.http.get("/openapi.json")).json())))
        command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
        command += [str(file), "--url", gateway.url, "--checks", ",".join(CHECKS), "--seed", "1"]
        command += ["--phases", "examples,coverage,fuzzing", "-n", "40", "--request-timeout", "30"]
        command += ["--generation-database", "none", "--no-color"]
        run = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path
        )
        said = (await run.communicate())[0].decode()
        assert run.returncode == 0, said
        assert "✅ Coverage" in said
        await nothing_is_held(gateway)


async def test_every_path_says_what_it_takes_and_how_it_refuses(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        document: dict[str, Any] = (await gateway.http.get("/openapi.json")).json()
    without = {
        path
        for path, methods in document["paths"].items()
        if "post" in methods and "requestBody" not in methods["post"]
    }
    orders = {f"/v1/coe/experts/{{name}}/{order}" for order in ("load", "pin", "unpin", "cancel")}
    cancels = {"/v1/batches/{id}/cancel", "/v1/responses/{response_id}/cancel"}
    assert (
        without == {"/v1/coe/reload", "/v1/coe/cluster/drain", "/v1/coe/cluster/rebalance"} | orders | cancels
    )
    for operation in operations(document):
        (content,) = operation["responses"]["4XX"]["content"].values()
        assert content["schema"]["$ref"].rpartition("/")[2] in ("ErrorBody", "AnthropicError", "OllamaError")
        assert "422" not in operation["responses"]
