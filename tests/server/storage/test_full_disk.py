"""A disk that fills up under the databases of a gateway that serves, and has room again."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from server.access.usage import UsageQuery
from server.config.batches import BatchesConfig
from server.config.settings import Settings
from tests.server.conftest import Gateway, Serving

pytestmark = pytest.mark.asyncio


def kept_in(folder: Path, settings: Settings) -> Settings:
    """The same with accounts, responses and batches in ``folder``."""
    return settings.model_copy(
        update={
            "accounts": settings.accounts.model_copy(update={"file": folder / "accounts.sqlite"}),
            "responses": settings.responses.model_copy(update={"file": folder / "responses.sqlite"}),
            "batches": BatchesConfig(folder=folder / "batches"),
        }
    )


def fill(folder: Path) -> Path:
    """Leaves not a byte free, and returns the file to delete."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


async def respond(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    answer = await gateway.http.post(
        "/v1/responses", json={"model": "law", "input": "hello " * 2000} | fields
    )
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_full_disk_fails_what_must_be_kept_and_no_answer_and_loses_no_usage(
    serving: Serving, settings: Settings, small_memory: Path
) -> None:
    async with serving(kept_in(small_memory, settings)) as gateway:
        before = await respond(gateway)
        ballast = fill(small_memory)
        for _ in range(3):
            assert (await gateway.post()).status_code == 200
        made = await respond(gateway)
        assert made["status"] == "completed"
        assert made["store"] is False
        refused = await gateway.http.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", b"x" * 2**20)}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "storage_full")
        assert (await gateway.http.get("/health")).status_code == 200
        ballast.unlink()
        after = await respond(gateway)
        assert after["store"] is True
        for id in (before["id"], after["id"]):
            assert (await gateway.http.get(f"/v1/responses/{id}")).status_code == 200
        rows = await gateway.services.accounts.usage(UsageQuery())
        assert sum(row.requests for row in rows if row.expert == "law") == 6
