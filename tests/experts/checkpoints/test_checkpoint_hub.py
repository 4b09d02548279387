"""Preparation from a hub, over HTTP: a stand-in hub on this machine, named by HF_ENDPOINT."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
from safetensors.numpy import save

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "model.safetensors": save({"w.weight": np.ones((2, 3), dtype=np.float32)}),
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "consolidated.safetensors": b"the same weights once more",
    "original/params.json": b"{}",
    "modules.json": b'[{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]',
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "README.md": b"for people",
}
UNWANTED = {"consolidated.safetensors", "original/params.json", "README.md"}
PREPARE = """
import sys
from pathlib import Path
from experts.errors import CheckpointError
from experts.checkpoints.prepare import prepare
from experts.spec import CheckpointSource, ExpertConfig

config = ExpertConfig(family="tiny", checkpoint=CheckpointSource(huggingface="house/tiny", revision="main"))
try:
    expert = prepare("tiny", config, Path(sys.argv[1]), lambda *progress: print(*progress))
    print("prepared", expert.parameters)
except CheckpointError as error:
    print(type(error).__name__, error)
"""


class Hub(BaseHTTPRequestHandler):
    """The four requests huggingface_hub makes: the revision, its tree, and each file's head and body."""

    served: list[str]
    files: Mapping[str, bytes]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/models/house/tiny/revision/main":
            self._send(json.dumps({"id": "house/tiny", "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/models/house/tiny/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            self._send(json.dumps(entries).encode())
        elif path.startswith("/house/tiny/resolve/") and path.split("/", 5)[5] in self.files:
            name = path.split("/", 5)[5]
            if self.command == "GET":
                self.served.append(name)
            self._send(self.files[name])
        else:
            self.send_error(404)

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


@contextmanager
def a_hub(files: Mapping[str, bytes] = FILES) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the files it has handed out."""
    handler = type("FreshHub", (Hub,), {"served": [], "files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.served  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


def prepare(tmp_path: Path, endpoint: str, **environment: str) -> str:
    """In a process of its own, because huggingface_hub reads its environment when it is imported."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    finished = subprocess.run(
        [sys.executable, "-c", PREPARE, str(tmp_path / "store")],
        cwd=Path(__file__).parents[3],
        env=clean | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_only_what_a_checkpoint_needs_is_downloaded_and_only_once(tmp_path: Path) -> None:
    with a_hub() as (endpoint, served):
        said = prepare(tmp_path, endpoint)
        assert "prepared 6" in said
        assert "download 0" in said
        assert set(served) == FILES.keys() - UNWANTED
        assert len(served) == len(set(served))
        assert prepare(tmp_path, endpoint) == "prepared 6\n"
        assert len(served) == 6


def test_what_was_downloaded_serves_offline(tmp_path: Path) -> None:
    with a_hub() as (endpoint, _):
        prepare(tmp_path, endpoint)
    (tmp_path / "store" / "tiny" / "coe.json").unlink()
    assert "prepared 6" in prepare(tmp_path, endpoint, HF_HUB_OFFLINE="1")


def test_an_unknown_repository_is_a_missing_checkpoint(tmp_path: Path) -> None:
    with a_hub() as (endpoint, _):
        said = prepare(tmp_path, endpoint + "/nowhere")
    assert said.startswith(
        "CheckpointMissing experts.tiny.checkpoint: Hugging Face repository house/tiny@main: "
    )
