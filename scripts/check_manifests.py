"""Checks rendered manifests by kubernetes-validate: ``python -m scripts.check_manifests FILE...``

Each object is checked against the schema of its kind, strictly: a field that Kubernetes does not know is an
error. A ServiceMonitor has no schema there; that its selector finds one Service is checked for it, and that
TLS has a name to check. Nodes and gateways have to be told apart by what selects them.
"""

import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

NEEDED = {"StatefulSet", "Service", "PodDisruptionBudget"}
PODS = {"StatefulSet", "Deployment"}


def problems(file: Path) -> list[str]:
    """Lists what is wrong with the objects of a file."""
    objects = [each for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if each]
    found = [problem for each in objects for problem in _of_schema(each)]
    kinds = Counter(each["kind"] for each in objects)
    found += [f"there is no {kind}" for kind in NEEDED - kinds.keys()]
    names = Counter((each["kind"], each["metadata"]["name"]) for each in objects)
    found += [f"{kind} {name} is there {count} times" for (kind, name), count in names.items() if count > 1]
    workloads = [each for each in objects if each["kind"] in PODS]
    nodes = sum(each["spec"]["replicas"] for each in workloads if each["kind"] == "StatefulSet")
    found += [problem for each in workloads for problem in _of_pods(each, nodes)]
    found += _of_selectors(objects, workloads)
    services = [each for each in objects if each["kind"] == "Service"]
    for each in objects:
        if each["kind"] == "ServiceMonitor":
            wanted = each["spec"]["selector"]["matchLabels"].items()
            matching = [one for one in services if wanted <= one["metadata"]["labels"].items()]
            if len(matching) != 1:
                found.append(f"the ServiceMonitor finds {len(matching)} services")
            for asked in each["spec"]["endpoints"]:
                if asked["scheme"] == "https" and not asked.get("tlsConfig", {}).get("serverName"):
                    found.append("the ServiceMonitor asks over TLS by addresses, for which no certificate is")
    return found


def _of_schema(each: dict[str, Any]) -> list[str]:
    if each["kind"] == "ServiceMonitor":
        return []
    validate = importlib.import_module("kubernetes_validate")
    try:
        validate.validate(each, validate.latest_version(), strict=True)
    except (validate.ValidationError, validate.SchemaNotFoundError) as error:
        return [f"{each['kind']} {each['metadata']['name']}: {str(error).splitlines()[0]}"]
    return []


def _of_pods(workload: dict[str, Any], nodes: int) -> list[str]:
    """Checks that every node is in the list of nodes, and that what is mounted is there."""
    spec = workload["spec"]
    container = spec["template"]["spec"]["containers"][0]
    peers = next(each for each in container["args"] if each.startswith("--peers="))
    count = len(peers.partition("=")[2].split(","))
    found = [] if count == nodes else [f"{count} peers for {nodes} nodes"]
    there = {each["name"] for each in spec["template"]["spec"]["volumes"]}
    there |= {each["metadata"]["name"] for each in spec.get("volumeClaimTemplates", [])}
    mounted = {each["name"] for each in container["volumeMounts"]}
    return found + [f"volume {name} is not there" for name in mounted - there]


def _of_selectors(objects: list[dict[str, Any]], workloads: list[dict[str, Any]]) -> list[str]:
    """Checks that what selects pods finds those of one workload, and the Service for metrics all."""
    found = []
    for each in objects:
        if each["kind"] not in PODS | {"Service", "PodDisruptionBudget"}:
            continue
        selector = each["spec"]["selector"]
        wanted = selector.get("matchLabels", selector).items()
        count = sum(wanted <= one["spec"]["template"]["metadata"]["labels"].items() for one in workloads)
        expected = len(workloads) if each["metadata"]["name"].endswith("-metrics") else 1
        if count != expected:
            found.append(f"{each['kind']} {each['metadata']['name']} selects pods of {count} workloads")
    return found


def main(files: list[str]) -> int:
    wrong = [f"{file}: {problem}" for file in files for problem in problems(Path(file))]
    print("\n".join(wrong) if wrong else f"{len(files)} renderings of the chart are as Kubernetes wants them")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
