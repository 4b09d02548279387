"""Measures a batch beside the same requests online in file order: seconds, loads and switches.

    python -m scripts.measure.batch requests.jsonl --url http://127.0.0.1:8000 --in-flight 16

The file is one that ``POST /v1/batches`` takes. The gateway has ``batches`` configured and nothing else to
do; the second way begins where the first left the experts.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Cost:
    """Since the gateway's start, or of one way. ``loads``: of an expert onto the device."""

    seconds: float
    loads: float
    switches: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds - other.seconds, self.loads - other.loads, self.switches - other.switches)


async def cost_so_far(http: httpx.AsyncClient) -> Cost:
    text = (await http.get("/metrics")).text

    def total(series: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{series} (\S+)$", text, re.MULTILINE))

    loads = total(r'coe_move_seconds_count{[^}]*to_tier="device"[^}]*}')
    return Cost(time.monotonic(), loads, total(r"coe_engine_switches_total{[^}]*}"))


async def as_batch(http: httpx.AsyncClient, file: Path, endpoint: str) -> None:
    form = {"purpose": "batch"}
    with file.open("rb") as opened:
        uploaded = checked(await http.post("/v1/files", data=form, files={"file": opened}))
    asked = {"input_file_id": uploaded["id"], "endpoint": endpoint, "completion_window": "24h"}
    batch = checked(await http.post("/v1/batches", json=asked))
    while batch["status"] in ("validating", "in_progress", "finalizing"):
        await asyncio.sleep(0.1)
        batch = checked(await http.get(f"/v1/batches/{batch['id']}"))
    if batch["status"] != "completed" or batch["request_counts"]["failed"]:
        raise SystemExit(f"the batch is {batch['status']}: {batch['request_counts']}, {batch['errors']}")


async def online(http: httpx.AsyncClient, requests: Sequence[Mapping[str, Any]], in_flight: int) -> None:
    left = iter(requests)

    async def some() -> None:
        for request in left:
            checked(await http.post(request["url"], json=request["body"]))

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(some())


def checked(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise SystemExit(f"{answer.request.url}: {answer.status_code} {answer.text}")
    return answer.json()


async def measure(options: argparse.Namespace) -> dict[str, Cost]:
    requests = [json.loads(line) for line in options.file.read_text().splitlines() if line.strip()]
    async with httpx.AsyncClient(base_url=options.url, timeout=None) as http:
        before = await cost_so_far(http)
        await as_batch(http, options.file, requests[0]["url"])
        between = await cost_so_far(http)
        await online(http, requests, options.in_flight)
        after = await cost_so_far(http)
    return {"batch": between - before, f"online, {options.in_flight} in flight": after - between}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON lines as POST /v1/batches takes them")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the gateway")
    parser.add_argument("--in-flight", type=int, default=16, help="requests online at once")
    costs = asyncio.run(measure(parser.parse_args()))
    print("| way | seconds | loads | switches |\n|---|---:|---:|---:|")
    for way, cost in costs.items():
        print(f"| {way} | {cost.seconds:.1f} | {cost.loads:.0f} | {cost.switches:.0f} |")


if __name__ == "__main__":
    main()
