"""Runs tools that people use against a gateway: ``python -m scripts.check_tools [TOOL ...]``.

Their versions are those of a day, ``AS_OF``, with ``--newest`` today's.
It starts a gateway over simulated engines, with ``--embedded`` one over vLLM and the embedded composition;
``--url`` asks one that runs, which needs no key and has a composition ``coe``. A tool counts as run if its
session ends well, the gateway has answered it, and no lease is left. Nothing is kept.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from scripts.check_tools.catalog import AS_OF, TOOLS, Command, Tool
from scripts.check_tools.gateway import served

INSTALL_S, SESSION_S = 900, 300


def main() -> int:
    """Returns 1 where a tool did not run."""
    parser = argparse.ArgumentParser(prog="check_tools", description=__doc__)
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"of {', '.join(TOOLS)}; all by default")
    parser.add_argument("--newest", action="store_true", help=f"today's versions, not those of {AS_OF}")
    gateway = parser.add_mutually_exclusive_group()
    gateway.add_argument("--url", help="of a gateway that runs and needs no key")
    gateway.add_argument("--embedded", action="store_true", help="over vLLM and the embedded composition")
    options = parser.parse_args()
    unknown = sorted({*options.tools} - TOOLS.keys())
    if unknown:
        parser.error(f"there is no tool {unknown[0]!r}: {', '.join(TOOLS)}")
    over = options.url or ("embedded" if options.embedded else "simulated")
    if over == "simulated":
        os.environ["SIMULATED"] = "1"  # sessions leave out what only a model does
    print(f"{time.strftime('%Y-%m-%d')}, {over}", flush=True)
    with tempfile.TemporaryDirectory(prefix="check-tools-") as folder, contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(served(Path(folder), embedded=options.embedded))
        day = None if options.newest else AS_OF
        names = options.tools or [*TOOLS]
        if not all(TOOLS[name].npm for name in names):
            _do([sys.executable, "-m", "venv", Path(folder) / "uv"], Path(folder), os.environ, INSTALL_S)
            _do([*_pip(Path(folder) / "uv"), "uv"], Path(folder), os.environ, INSTALL_S)
        outcomes = [_told(name, url.rstrip("/"), Path(folder), day) for name in names]
    return 0 if all(outcomes) else 1


def _told(name: str, url: str, folder: Path, day: str | None) -> bool:
    """Runs a tool and prints its outcome; says whether it ran."""
    began = time.monotonic()
    try:
        versions = _run(TOOLS[name], url, folder / name, day)
    except (NotRun, subprocess.TimeoutExpired) as error:
        print(f"{name:<22} not run: {error}", flush=True)
        return False
    print(f"{name:<22} run  {versions}  ({time.monotonic() - began:.0f} s)", flush=True)
    return True


class NotRun(Exception):
    """The tool did not install, or its session failed; the message has the end of what it printed."""


def _run(tool: Tool, url: str, folder: Path, day: str | None) -> str:
    """Installs and runs a tool, and returns its packages' versions. Raises NotRun, TimeoutExpired."""
    folder.mkdir()
    home = folder / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "BASE_URL": url, "OPENAI_API_KEY": "none"}
    environment |= {
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
    }
    environment.pop("PYTHONPATH", None)
    environment.pop("HF_HUB_OFFLINE", None)
    if not tool.hub:
        environment["HF_HUB_OFFLINE"] = "1"
    _install(tool, folder, day)
    for name, text in (tool.files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace("URL/", f"{url}/"), encoding="utf-8")
    answered = _metric(url, "coe_requests_total", 'outcome="200"')
    _do(tool.command(folder, url), folder, environment, SESSION_S)
    if _metric(url, "coe_requests_total", 'outcome="200"') == answered:
        raise NotRun("it ended well, but the gateway answered nothing")
    if _metric(url, "coe_leases", "") != 0:
        raise NotRun("it left a lease")
    return ", ".join(_version(tool, package, folder) for package in tool.packages)


def _install(tool: Tool, folder: Path, day: str | None) -> None:
    """Installs the versions of a day, None: today's. Raises NotRun, TimeoutExpired."""
    if tool.npm:
        (folder / "package.json").write_text('{"private": true, "type": "module"}', encoding="utf-8")
        npm: Command = ["npm", "install", "--no-audit", "--no-fund", *(["--before", day] if day else [])]
        _do([*npm, *tool.packages], folder, os.environ, INSTALL_S)
        return
    _do([sys.executable, "-m", "venv", "--without-pip", folder], folder, os.environ, INSTALL_S)
    uv: Command = [folder.parent / "uv" / "bin" / "uv", "pip", "install", "--quiet", "--system-certs"]
    python: Command = ["--python", folder / "bin" / "python", *(["--exclude-newer", day] if day else [])]
    _do([*uv, *python, *tool.packages], folder, os.environ, INSTALL_S)


def _pip(environment: Path) -> Command:
    return [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _do(command: Command, folder: Path, environment: Mapping[str, str], seconds: int) -> str:
    """Raises NotRun, TimeoutExpired."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode != 0:
        end = " ".join(done.stdout[-600:].split())
        raise NotRun(f"{Path(command[0]).name} ended with {done.returncode}: {end}")
    return done.stdout


def _version(tool: Tool, package: str, folder: Path) -> str:
    name = package.partition("[")[0]
    if tool.npm:
        tree = json.loads((folder / "node_modules" / name / "package.json").read_text(encoding="utf-8"))
        return f"{name} {tree['version']}"
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    return f"{name} {_do([folder / 'bin' / 'python', '-c', asked], folder, os.environ, 60).strip()}"


def _metric(url: str, name: str, label: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    series = (line.rsplit(" ", 1) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(value) for labels, value in series if label in labels)


if __name__ == "__main__":
    sys.exit(main())
