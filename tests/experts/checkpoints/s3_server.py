"""A server of S3 on a socket (moto's), which notes what it is asked and can break answers off."""

import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import make_server

BUCKET = "house"


@dataclass
class S3Server:
    """``asked``: the ranges that were read, by the file's last name. ``cut_after``: answers with ranges that
    are whole; those that follow break off in the middle."""

    endpoint: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    cut_after: int | None = None

    def __post_init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._ranges = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        span = environ.get("HTTP_RANGE")
        answer: Iterable[bytes] = self._app(environ, start_response)
        if environ["REQUEST_METHOD"] != "GET" or not span:
            return answer
        self.asked.append((environ["PATH_INFO"].rpartition("/")[2], span))
        self._ranges += 1
        if self.cut_after is None or self._ranges <= self.cut_after:
            return answer
        whole = b"".join(answer)
        return [whole[: len(whole) // 2]]

    def put(self, files: Mapping[str, bytes], folder: str = "models/tiny") -> str:
        """Uploads files, and returns the folder's URL."""
        store = self._client()
        for name, content in files.items():
            store.put_object(Bucket=BUCKET, Key=f"{folder}/{name}", Body=content)
        return f"s3://{BUCKET}/{folder}"

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )


@contextmanager
def an_s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Serves with one bucket, and has the environment name it."""
    s3 = S3Server()
    server = make_server("127.0.0.1", 0, s3, threaded=True)
    s3.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    given = {"AWS_ENDPOINT_URL": s3.endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in {**given, "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # those of other tests have other addresses
    urllib.request.urlopen(f"{s3.endpoint}/moto-api/reset", b"").close()  # what it has is the process's
    try:
        s3._client().create_bucket(Bucket=BUCKET)
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
