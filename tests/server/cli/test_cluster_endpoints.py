"""The file that llm-d's endpoint picker reads has the nodes that take requests, and no others."""

import ipaddress

import pytest

from server.cli.cluster.endpoints import entries
from server.operator_api import NodeStatus, OperatorError

NODES = (
    NodeStatus(address="10.0.0.2:8100", state="this node", url="http://10.0.0.2:8000"),
    NodeStatus(address="node-b.internal:8100", state="up", url="http://node-b.internal:8000"),
    NodeStatus(address="10.0.0.4:8100", state="lost"),
    NodeStatus(address="10.0.0.5:8100", state="draining", url="http://10.0.0.5:8000"),
)


def test_nodes_that_take_requests_are_named_by_ipv4_address_and_port_as_text() -> None:
    found = [*entries(NODES, {"10.0.0.2": "10.0.0.2", "node-b.internal": "10.0.0.3"}.__getitem__)]
    assert [(each["address"], each["port"]) for each in found] == [("10.0.0.2", "8000"), ("10.0.0.3", "8000")]
    assert len({each["name"] for each in found}) == 2
    for each in found:
        assert ipaddress.ip_address(each["address"]).version == 4
        assert each.keys() == {"name", "address", "port", "labels"}


def test_a_name_that_leads_nowhere_is_told() -> None:
    def nowhere(name: str) -> str:
        raise OSError("unknown name")

    with pytest.raises(OperatorError, match=r"10\.0\.0\.2 has no IPv4 address here: unknown name"):
        [*entries(NODES, nowhere)]
