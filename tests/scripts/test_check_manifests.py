"""The check of the Helm chart finds what would not work, beside what Kubernetes' schemas say."""

from pathlib import Path

import pytest

from scripts import check_manifests

NODES = """
kind: StatefulSet
metadata: {name: coe}
spec:
  replicas: %d
  selector: {matchLabels: {part: node}}
  template:
    metadata: {labels: {part: node}}
    spec:
      containers:
        - args: [serve, "--peers=coe-0.nodes:8100,coe-1.nodes:8100"]
          volumeMounts: [{name: state}, {name: %s}]
      volumes: [{name: secret}]
  volumeClaimTemplates: [{metadata: {name: state}}]
---
kind: Service
metadata: {name: coe, labels: {of: %s}}
spec: {selector: {part: %s}}
---
kind: PodDisruptionBudget
metadata: {name: coe}
spec: {selector: {matchLabels: {part: node}}}
---
kind: ServiceMonitor
metadata: {name: coe}
spec: {selector: {matchLabels: {of: clients}}, endpoints: [{scheme: https, tlsConfig: %s}]}
"""


@pytest.mark.parametrize(
    ("replicas", "volume", "label", "part", "tls", "wrong"),
    [
        (2, "secret", "clients", "node", "{serverName: coe}", []),
        (3, "secret", "clients", "node", "{serverName: coe}", ["2 peers for 3 nodes"]),
        (2, "config", "clients", "node", "{serverName: coe}", ["volume config is not there"]),
        (2, "secret", "nodes", "node", "{serverName: coe}", ["the ServiceMonitor finds 0 services"]),
        (2, "secret", "clients", "gateway", "{serverName: coe}", ["Service coe selects pods of 0 workloads"]),
        (
            2,
            "secret",
            "clients",
            "node",
            "{ca: {}}",
            ["the ServiceMonitor asks over TLS by addresses, for which no certificate is"],
        ),
    ],
)
def test_what_does_not_fit_together_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    replicas: int,
    volume: str,
    label: str,
    part: str,
    tls: str,
    wrong: list[str],
) -> None:
    monkeypatch.setattr(check_manifests, "_of_schema", lambda each: [])
    file = tmp_path / "rendered.yaml"
    file.write_text(NODES % (replicas, volume, label, part, tls))
    assert check_manifests.problems(file) == wrong
