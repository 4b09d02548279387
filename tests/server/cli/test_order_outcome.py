"""When an order is settled, and what is said then, from its expert's status alone."""

import dataclasses
from typing import Any

import pytest

from memory_tiers.status import ExpertStatus
from server.cli.tiers.order_outcome import Order, outcome

LOAD, PIN = Order("load", "law", "device"), Order("pin", "law")
TO_HOST, TO_DISK = Order("demote", "law", "host"), Order("move", "law", "disk")
CANCEL, UNPIN = Order("cancel", "law"), Order("unpin", "law")
ON_DISK = ExpertStatus(
    expert="law",
    family="small",
    tier="disk",
    device="absent",
    host="absent",
    pinned=False,
    leases=0,
    waiting=0,
    weights_bytes=10,
    device_bytes=0,
    host_bytes=0,
    image=False,
    default=False,
    ttl_s=None,
    ordered=None,
    failure="",
)


def at(**changes: Any) -> ExpertStatus:
    return dataclasses.replace(ON_DISK, **changes)


def on_device(**changes: Any) -> ExpertStatus:
    return at(tier="device", device="present", **changes)


@pytest.mark.parametrize(
    ("order", "status"),
    [
        (LOAD, at(ordered="device")),
        (LOAD, at(ordered="device", device="arriving")),
        (LOAD, at(ordered="device", device="leaving", tier="host")),
        (PIN, at(pinned=True)),
        (TO_HOST, on_device(ordered="host", leases=1)),
        (TO_DISK, at(tier="host", ordered="disk")),
        (CANCEL, at(device="arriving")),
        (CANCEL, at(host="arriving")),
        (CANCEL, on_device(ordered="host")),
    ],
)
def test_an_order_under_way_is_not_settled(order: Order, status: ExpertStatus) -> None:
    assert outcome(order, status) is None


@pytest.mark.parametrize(
    ("order", "status", "text"),
    [
        (LOAD, on_device(), "law is on device"),
        (LOAD, on_device(ordered="host"), "law is on device"),
        (PIN, on_device(pinned=True), "law is on device, pinned"),
        (UNPIN, on_device(), "law is on device"),
        (TO_HOST, at(tier="host"), "law is on host"),
        (TO_HOST, at(), "law is on disk"),
        (TO_DISK, at(), "law is on disk"),
        (CANCEL, at(failure="bad"), "law is on disk"),
    ],
)
def test_an_order_that_is_carried_out_says_where_the_expert_is(
    order: Order, status: ExpertStatus, text: str
) -> None:
    ended = outcome(order, status)
    assert ended is not None
    assert (ended.carried_out, ended.text) == (True, text)


@pytest.mark.parametrize(
    ("order", "status", "text"),
    [
        (LOAD, at(failure="tensor x holds NaN"), "tensor x holds NaN"),
        (LOAD, at(), "its load was cancelled"),
        (LOAD, at(device="arriving"), "its load was cancelled"),
        (LOAD, at(ordered="disk"), "another order sends law to disk"),
        (PIN, at(pinned=True, failure="tensor x holds NaN"), "tensor x holds NaN"),
        (PIN, at(), "unpinned by another order"),
        (TO_HOST, on_device(), "law is on device: somebody has asked for it"),
        (TO_HOST, at(failure="a damaged file"), "a damaged file"),
        (TO_DISK, at(tier="host"), "law is on host: somebody has asked for it"),
        (TO_DISK, on_device(ordered="host"), "another order sends law to host"),
        (LOAD, None, "there is no expert law any more"),
    ],
)
def test_an_order_that_came_to_nothing_says_why(order: Order, status: ExpertStatus | None, text: str) -> None:
    ended = outcome(order, status)
    assert ended is not None
    assert not ended.carried_out
    assert text in ended.text
