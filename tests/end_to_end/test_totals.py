"""Totals read from /metrics: a series that is missing is an error, and not zero."""

import pytest
from prometheus_client import CollectorRegistry

from server.metrics.exposition import exposition
from server.metrics.gateway import Metrics
from tests.end_to_end.conftest import total_of


async def test_a_series_that_is_misspelt_fails_and_one_without_samples_is_zero() -> None:
    metrics = Metrics(registry := CollectorRegistry())
    metrics.request_done("law", "200", 0.5)
    text = (await exposition(registry)).decode()
    assert total_of(text, 'coe_requests_total{expert="law"') == 1
    assert total_of(text, "coe_request_seconds_count") == 1
    assert total_of(text, "coe_move_seconds_count{") == 0
    assert total_of(text, "coe_leases{") == 0
    for misspelt in ("coe_request_total{", "coe_lease{", "coe_requests{", "coe_leases_count", "coe_"):
        with pytest.raises(AssertionError, match="there is no series"):
            total_of(text, misspelt)
