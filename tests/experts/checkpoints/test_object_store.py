"""Preparation from object stores and web servers, over real sockets."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save

from experts.checkpoints.object_store.folder import ObjectFolder
from experts.checkpoints.prepare import prepare
from experts.checkpoints.sources.object_store import ObjectStoreSource
from experts.errors import CheckpointMismatch, CheckpointMissing, NoSpace
from experts.progress import silent
from experts.spec import CheckpointSource, ExpertConfig
from tests.experts.checkpoints.s3_server import S3Server, an_s3_server
from tests.experts.checkpoints.test_checkpoint_hub import FILES, UNWANTED

BELONGING = FILES.keys() - UNWANTED
WEIGHTS = save({"w.weight": np.arange(100_000, dtype=np.float32)})


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with an_s3_server(monkeypatch) as server:
        yield server


@contextmanager
def a_web_server(folder: Path) -> Iterator[str]:
    """A web server that lists its folders, gives no ETag, and says when a file was changed last."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def config(url: str) -> ExpertConfig:
    return ExpertConfig(family="tiny", checkpoint=CheckpointSource(url=url))


def sums(files: dict[str, bytes]) -> bytes:
    return "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()
    ).encode()


def test_only_what_a_checkpoint_needs_is_downloaded_and_only_once(s3: S3Server, tmp_path: Path) -> None:
    url = s3.put({**FILES, "SHA256SUMS": sums(FILES)})
    s3.put({"model.safetensors": b"deeper"}, "models/tiny/run/7")
    shown: list[tuple[str, int, int]] = []
    expert = prepare("tiny", config(url), tmp_path, lambda *progress: shown.append(progress))
    assert expert.parameters == 6
    assert {name for name, _ in s3.asked} == {"SHA256SUMS", *(name.rpartition("/")[2] for name in BELONGING)}
    size = sum(len(FILES[name]) for name in BELONGING)
    assert [each for each in shown if each[0] == "download"][-1] == ("download", size, size)
    for name in BELONGING:
        assert (tmp_path / "tiny" / name).read_bytes() == FILES[name]
    asked = len(s3.asked)
    prepare("tiny", config(url), tmp_path)
    assert len(s3.asked) == asked, "what is prepared asks no store"
    assert [each.name for each in tmp_path.glob(".download*") if each.is_dir()] == []


def test_a_download_that_was_cut_goes_on_where_it_stopped(s3: S3Server, tmp_path: Path) -> None:
    url = s3.put({"model.safetensors": WEIGHTS})
    source = ObjectStoreSource(url, piece_bytes=5_000)
    s3.cut_after = 17  # two times eight pieces at a time, and one of the next eight
    first, second = tmp_path / ".tiny.new", tmp_path / ".again.new"
    for folder in (first, second):
        folder.mkdir()
    with pytest.raises(CheckpointMissing, match=f"^{url}: "):
        source.provide(first, silent)
    s3.cut_after, came = None, [span for _, span in s3.asked]
    assert "bytes=0-4999" in came
    assert source.space(tmp_path).bytes == len(WEIGHTS) - 80_000
    s3.asked.clear()
    source.provide(second, silent)
    assert (second / "model.safetensors").read_bytes() == WEIGHTS
    assert min(int(span.removeprefix("bytes=").partition("-")[0]) for _, span in s3.asked) == 80_000


def test_a_download_begins_anew_where_the_file_is_another(s3: S3Server, tmp_path: Path) -> None:
    url = s3.put({"model.safetensors": WEIGHTS})
    source = ObjectStoreSource(url, piece_bytes=5_000)
    s3.cut_after = 9
    (tmp_path / ".tiny.new").mkdir()
    with pytest.raises(CheckpointMissing):
        source.provide(tmp_path / ".tiny.new", silent)
    s3.cut_after = None
    other = WEIGHTS[:-4] + b"\0\0\0\0"
    s3.put({"model.safetensors": other})
    source.provide(tmp_path / ".tiny.new", silent)
    assert (tmp_path / ".tiny.new" / "model.safetensors").read_bytes() == other


def test_a_file_that_is_not_as_its_sum_says_is_refused_and_fetched_anew(s3: S3Server, tmp_path: Path) -> None:
    url = s3.put({**FILES, "SHA256SUMS": sums(FILES | {"config.json": b"another"})})
    with pytest.raises(CheckpointMismatch, match=r"tiny/config\.json: sha256 is .*SHA256SUMS says"):
        prepare("tiny", config(url), tmp_path)
    assert not (tmp_path / "tiny").exists()
    s3.put({"SHA256SUMS": sums(FILES)})
    assert prepare("tiny", config(url), tmp_path).parameters == 6


def test_a_file_that_the_sums_do_not_list_is_refused(s3: S3Server, tmp_path: Path) -> None:
    url = s3.put({**FILES, "SHA256SUMS": sums({"config.json": FILES["config.json"]})})
    with pytest.raises(CheckpointMismatch, match=r"SHA256SUMS does not list 1_Pooling/config\.json"):
        prepare("tiny", config(url), tmp_path)


def test_there_has_to_be_room_for_what_is_still_to_come(s3: S3Server, tmp_path: Path) -> None:
    url = s3.put(FILES)
    with pytest.raises(NoSpace, match="tiny needs"):
        prepare("tiny", config(url), tmp_path, free=lambda path: 10)
    assert {name for name, _ in s3.asked} == set()


@pytest.mark.parametrize("url", ["s3://house/nowhere", "s3://nowhere/model"])
def test_a_bucket_or_folder_that_is_not_there_is_one_line(s3: S3Server, tmp_path: Path, url: str) -> None:
    with pytest.raises(CheckpointMissing) as refused:
        prepare("tiny", config(url), tmp_path)
    assert str(refused.value).startswith(f"experts.tiny.checkpoint: {url}: there is nothing")
    assert "\n" not in str(refused.value)


def test_missing_credentials_are_one_line(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3.put(FILES)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CheckpointMissing) as refused:
        prepare("tiny", config(url), tmp_path)
    assert str(refused.value).startswith(
        f"experts.tiny.checkpoint: {url}: Unable to locate credentials; check AWS_ACCESS_KEY_ID and"
    )


def test_a_store_that_does_not_answer_is_one_line(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(CheckpointMissing, match="Could not connect to the endpoint URL") as refused:
        prepare("tiny", config("s3://house/models/tiny"), tmp_path)
    assert "\n" not in str(refused.value)


def test_a_file_system_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match=r"pip install 'composition-of-experts\[gcs\]'"):
        prepare("tiny", config("gs://house/models/tiny"), tmp_path)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://host/model", "does not begin with s3://, gs://, az://, http://, https://"),
        ("bucket/model", "does not begin with s3://"),
        ("s3:///model", "names no bucket"),
        ("https://me:secret@host/model", "credentials belong in the environment"),
        ("https://host/model?token=x", "credentials belong in the environment"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        CheckpointSource(url=url)


def test_a_web_server_that_lists_its_folders_is_a_store_too(tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = tmp_path / "there" / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with a_web_server(tmp_path / "there") as url:
        assert prepare("tiny", config(f"{url}/tiny"), tmp_path / "store").parameters == 6
    assert (tmp_path / "store" / "tiny" / "1_Pooling" / "config.json").is_file()


def test_a_web_servers_file_that_was_changed_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(WEIGHTS)
    with a_web_server(tmp_path) as url:
        before = ObjectFolder(url).describe(file.name)
        assert ObjectFolder(url).describe(file.name) == before
        os.utime(file, (1, 1))
        assert ObjectFolder(url).describe(file.name) != before
