"""Tools that people use, as they were on one day, over a gateway with simulated engines."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from scripts.check_tools.catalog import TOOLS
from tests.end_to_end.conftest import ROOT

pytestmark = pytest.mark.tools
IN_SESSIONS = {"ollama", "ollama-node", "ai-sdk"}
"""Tools that tests/clients/test_clients.py has over real vLLM."""
NAMES = [name for name in TOOLS if name not in IN_SESSIONS]


@pytest.fixture(scope="module")
def outcomes() -> Mapping[str, str]:
    """Runs each tool, and returns what is said of it, by its name."""
    path = f"{ROOT / '.venv-clients' / 'bin'}:{os.environ['PATH']}"  # where node and npm are
    done = subprocess.run(
        [sys.executable, "-m", "scripts.check_tools", *NAMES],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    assert len(lines) > len(NAMES), done.stderr
    return {name: outcome.strip() for name, _, outcome in lines}


@pytest.mark.parametrize("tool", NAMES)
def test_a_tool_runs_and_leaves_no_lease(outcomes: Mapping[str, str], tool: str) -> None:
    assert outcomes[tool].startswith("run "), outcomes[tool]
