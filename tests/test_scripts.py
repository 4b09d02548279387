"""Messages of the README's commands when they cannot do their work."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_tests_end_with_a_line_that_names_the_step_that_failed() -> None:
    wrong = {**os.environ, "COE_BUILD": "gpu"}
    done = subprocess.run([ROOT / "scripts" / "test"], env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[0] == "install: COE_BUILD must be cpu or cuda, not 'gpu'"
    assert said[-1].startswith("test: no test ran: 'env COE_EXTRAS=dev scripts/install' failed")


def test_the_image_runs_as_a_user_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001:10001"]
    assert lines.index(f"USER {users[-1]}") < lines.index('ENTRYPOINT ["scripts/serve", "--host", "0.0.0.0"]')
