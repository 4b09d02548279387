"""Serves with scripts/serve, asks the composition once, stops it, and looks for what it left behind.

    python3 scripts/serve_once.py              # scripts/check_bare runs it
    python3 scripts/serve_once.py -- COMMAND   # serves with another command, which becomes the gateway
    python3 scripts/serve_once.py URL          # asks one that runs and leaves it on; for scripts/check_image

Uses the standard library alone, as it runs before anything is installed. Exit status 1, and what is wrong.
"""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUESTION = "What is the derivative of x^2 * sin(x)?"


def main() -> str | None:
    """Returns None when all went well, else what ``sys.exit`` is to say."""
    given = sys.argv[1:]
    if given and given[0] != "--":
        return asked(given[0])
    command = [*(given[1:] or [str(ROOT / "scripts" / "serve")]), "--port", "0"]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        found = (re.match(r"Ready on (http://\S+)/v1", line) for line in gateway.stdout)
        url = next((match[1] for match in found if match), None)
        if url is None:
            return f"serve_once: it ended with exit status {gateway.wait()} before it was ready"
        ready = time.monotonic()
        problem = asked(url)
        took, answered = ready - began, time.monotonic() - ready
        print(f"serve_once: ready after {took:.1f} s, answered {answered:.2f} s later", file=sys.stderr)
        gateway.send_signal(signal.SIGTERM)
        gateway.stdout.read()
    return problem or left_by(gateway)


def asked(url: str) -> str | None:
    """Returns None for a routed answer, else what is wrong."""
    body = {"model": "coe", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 32}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(f"{url}/ready"), urllib.request.urlopen(request) as answer:
            said = json.load(answer)["choices"][0]["message"]["content"]
            expert, chosen_by = answer.headers["x-coe-expert"], answer.headers["x-coe-routed-by"]
    except urllib.error.HTTPError as error:
        return f"serve_once: {error.url} answers {error.code}: {error.read().decode()[:500]}"
    print(f"serve_once: {expert}, chosen by the {chosen_by}, says {said!r}", file=sys.stderr)
    return None if said.strip() and chosen_by == "map" else "serve_once: that is no routed answer"


def left_by(gateway: "subprocess.Popen[str]") -> str | None:
    """Says what a stopped gateway left behind: a bad exit status, sockets, memory; None: nothing."""
    if gateway.returncode != 0:
        return f"serve_once: stopped, it ended with exit status {gateway.returncode}"
    own = re.compile(rf"coe-(host-)?{gateway.pid}-")  # scripts/serve becomes the gateway
    left = [
        path for folder in ("/dev/shm", "/tmp") for path in Path(folder).iterdir() if own.match(path.name)
    ]
    return f"serve_once: it left {', '.join(map(str, left))}" if left else None


if __name__ == "__main__":
    sys.exit(main())
