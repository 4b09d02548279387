"""The HTTP clients that are compared answer the same engine."""

from pathlib import Path

from benchmarks.gateway.engine_clients import CLIENTS, beside_an_engine


async def test_each_client_is_measured_with_one_connection_and_with_many(tmp_path: Path) -> None:
    found = await beside_an_engine(rounds=2, requests=40, folder=tmp_path)
    assert found.keys() == {f"{name}, {connections} at once" for name in CLIENTS for connections in (1, 32)}
    assert all(each.per_second > 0 and each.p50_ms > 0 for each in found.values())
