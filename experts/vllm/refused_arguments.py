"""Refuses arguments for vLLM's server that would break what experts in turns rely on, each with its reason.

That a connector's keys carry the salt that keeps experts apart was read in vLLM 0.32, and not run.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from experts.spec import EngineMode

_PARALLEL = "sizes, loads and turns count the GPUs of tensor_parallel_size alone"
_SEAM = "mode interleaved has a class of its own there"
_ALWAYS: Mapping[str, str] = {
    "--config": "the arguments in that file would go unchecked: write them into extra_args",
    "--data-parallel-size": _PARALLEL,
    "-dp": _PARALLEL,
    "--pipeline-parallel-size": _PARALLEL,
    "-pp": _PARALLEL,
    "--prefill-context-parallel-size": _PARALLEL,
    "-pcp": _PARALLEL,
    "--nnodes": _PARALLEL,
    "--tensor-parallel-size": "set the family's tensor_parallel_size, by which memory is counted",
    "-tp": "set the family's tensor_parallel_size, by which memory is counted",
}
_INTERLEAVED: Mapping[str, str] = {
    "--scheduler-cls": _SEAM,
    "--worker-cls": _SEAM,
    "--distributed-executor-backend": _SEAM,
    "--additional-config": "mode interleaved keeps the experts in it",
}
_CAPTURED = (
    "cuda_graphs: each says which sizes are captured, and memory is planned by them; with cuda_graphs: "
    "shared vLLM's own settings hold"
)
_EACH_CAPTURES: Mapping[str, str] = {
    "--compilation-config": _CAPTURED,  # the last one replaces all of ours
    "-cc": _CAPTURED,
    "--cudagraph-capture-sizes": _CAPTURED,
    "--max-cudagraph-capture-size": _CAPTURED,
}
_ASYNCHRONOUS = "--async-scheduling"
_DRAFTS = ("--speculative-config", "-sc", "--spec-method", "--spec-model", "--spec-tokens")
_ADAPTERS = "an adapter is an expert of a family with mode lora"
_SALTED: Mapping[str, frozenset[str]] = {
    "interleaved": frozenset({"OffloadingConnector", "SimpleCPUOffloadConnector", "LMCacheMPConnector"}),
    "lora": frozenset({"OffloadingConnector", "SimpleCPUOffloadConnector"}),
}
"""KV connectors whose keys are vLLM's own block hashes, or carry the salt: no expert reads another's."""
_KEEP_ADDRESSES = frozenset({"SimpleCPUOffloadConnector", "LMCacheMPConnector"})
"""Connectors that are told once where the KV pool is, which a sleep changes."""
_BACKENDS = {"native": "OffloadingConnector", "lmcache": "LMCacheMPConnector"}
_ONE = frozenset({"1", "true"})
"""Values that leave a parallel size as it is."""
_READ = (
    *(*_ALWAYS, *_INTERLEAVED, *_EACH_CAPTURES, "--enable-lora"),
    *(_ASYNCHRONOUS, "--no-async-scheduling", *_DRAFTS),
    *("--kv-transfer-config", "--kv-offloading-size", "--kv-offloading-backend"),
)
"""All arguments that are read here."""


def refusal(
    mode: EngineMode,
    arguments: Sequence[str],
    *,
    each_captures: bool = True,
    sleeps: bool = False,
    ranks: int = 1,
) -> str | None:
    """Returns why ``arguments`` cannot be given in ``mode``, naming the argument; None where they can.
    ``each_captures``: with ``cuda_graphs: each``; ``sleeps``: with a ``sleep_after_s``; ``ranks``: the GPUs
    of an engine."""
    if mode == "simulated":
        return None
    given = list(_named(arguments))
    for name, value in given:
        reason = _ALWAYS.get(name) if value not in _ONE else None
        if mode == "interleaved":
            refused = {**_INTERLEAVED, **(_EACH_CAPTURES if each_captures else {})}
            reason = reason or refused.get(name.partition(".")[0])
        if mode != "lora" and name == "--enable-lora":
            reason = _ADAPTERS
        if reason is not None:
            return f"{name}: {reason}"
    if mode == "interleaved" and schedules_asynchronously(arguments):
        reason = _unsettled(dict(given), ranks)
        if reason is not None:
            return f"{_ASYNCHRONOUS}: {reason}"
    return _mixing(mode, dict(given)) or (_moving(dict(given)) if sleeps else None)


def schedules_asynchronously(arguments: Sequence[str]) -> bool:
    """Tells whether ``arguments`` ask for steps that are scheduled before the one in front has ended."""
    asked = [name for name, _ in _named(arguments) if name in (_ASYNCHRONOUS, "--no-async-scheduling")]
    return asked[-1:] == [_ASYNCHRONOUS]


def _unsettled(given: Mapping[str, str], ranks: int) -> str | None:
    """Returns why an interleaved engine with these arguments cannot schedule asynchronously."""
    if ranks > 1:
        return "with tensor_parallel_size over 1 a thread waits for outputs, which could spoil a capture"
    if any(name.partition(".")[0] in _DRAFTS for name in given):
        return "drafts are of the step before, which may be another expert's: leave out speculative decoding"
    return None


def _named(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields names as vLLM reads them, ``_`` and ``-`` alike and written out where they are cut short, with
    their values (empty: none)."""
    for place, word in enumerate(arguments):
        if not word.startswith("-") or word[1:2].isdigit():
            continue
        name, equals, value = word.partition("=")
        follows = arguments[place + 1] if place + 1 < len(arguments) else ""
        whole, dot, key = name.replace("_", "-").partition(".")
        yield _whole(whole) + dot + key, value if equals else "" if follows.startswith("-") else follows


def _whole(name: str) -> str:
    """Returns the argument that ``name`` may be the beginning of, as argparse takes beginnings."""
    cut = name not in _READ and name.strip("-")
    return next((read for read in _READ if cut and read.startswith(name)), name)


def _mixing(mode: str, given: Mapping[str, str]) -> str | None:
    """Returns why a KV connector could give an expert what another computed."""
    allowed = _SALTED.get(mode, frozenset())
    for name, connector in _connectors(given):
        if connector not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            return (
                f"{name}: {connector} could give one expert the KV of another; those known to tell experts "
                f"apart in mode {mode}: {known}"
            )
    return None


def _moving(given: Mapping[str, str]) -> str | None:
    """Returns why an engine with a KV connector cannot sleep."""
    for name, connector in _connectors(given):
        if connector in _KEEP_ADDRESSES:
            return (
                f"{name}: {connector} keeps the addresses of the KV pool, which is elsewhere after a sleep: "
                "it and sleep_after_s do not go together"
            )
    return None


def _connectors(given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields the KV connectors that arguments name, each with its argument."""
    if "--kv-offloading-size" in given:
        backend = given.get("--kv-offloading-backend") or "native"
        yield "--kv-offloading-size", _BACKENDS.get(backend, backend)
    for name, value in given.items():
        if name == "--kv-transfer-config.kv-connector":
            yield name, value
        elif name == "--kv-transfer-config":
            for connector in _in_config(value):
                yield name, connector


def _in_config(text: str) -> Collection[str]:
    """Finds the connectors of a configuration in JSON; of several behind one, all."""
    try:
        config: Any = json.loads(text)
    except ValueError:
        return [text]
    if not isinstance(config, dict):
        return [text]
    inner = (config.get("kv_connector_extra_config") or {}).get("connectors") or []
    if config.get("kv_connector") == "MultiConnector" and inner:
        return [str(each.get("kv_connector")) for each in inner]
    return [str(config.get("kv_connector"))]
