"""``coe state``: what an older version kept elsewhere is moved as it is, or not at all."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from server.access.account_store import AccountStore
from server.batches.file_store import Spool
from server.batches.store import BatchStore
from server.cli.main import main
from server.config.api_keys import Key, new_secret
from server.config.places import KEPT, kept_at
from server.config.settings import load
from tests.server.config.test_places import ALL, left, older_layout, written

Captured = pytest.CaptureFixture[str]


def coe(verb: str, file: Path) -> int:
    return main(["state", verb, "--config", str(file)])


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_all_of_it_is_moved_and_works(tmp_path: Path, capsys: Captured) -> None:
    older_layout(tmp_path)
    with closing(AccountStore.open(tmp_path / "accounts.sqlite", create=False)) as store:
        store.create(Key("app"), new_secret(), 1.0)
    (tmp_path / "accounts.v1.sqlite").write_bytes((tmp_path / "accounts.sqlite").read_bytes())
    file = written(tmp_path, ALL + "state: kept\n")
    found = left(file)
    assert coe("move", file) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(found) == 7
    assert names(tmp_path) - names(tmp_path / "kept") - {f"kept/{n}" for n in names(tmp_path / "kept")} == {
        "config.yaml",
        "logs/of another program.log",
    }
    assert names(tmp_path / "kept") >= {"accounts.v1.sqlite", "models/law/coe.json", "events.jsonl"}
    settings = load(file)
    with closing(AccountStore.open(settings.accounts.file, create=False)) as store:
        assert [made.key.name for made in store.made_keys()] == ["app"]
    assert all((path := kept_at(settings, setting)) is not None and path.exists() for setting in KEPT)
    assert coe("move", file) == 0
    assert capsys.readouterr().out == f"{file}: everything is where it is kept now\n"


def test_nothing_is_moved_while_a_gateway_has_one_of_the_files_open(tmp_path: Path, capsys: Captured) -> None:
    older_layout(tmp_path)
    file = written(tmp_path, ALL)
    before = left(file)
    with closing(AccountStore.open(tmp_path / "accounts.sqlite", create=False)) as used:
        used.changes()
        assert coe("move", file) == 1
        assert "accounts.sqlite is held by another process" in capsys.readouterr().err
    spool = Spool(tmp_path / "batches", 2**20)
    assert coe("move", file) == 1
    assert "batches is held by another process; end that first" in capsys.readouterr().err
    spool.close()
    assert left(file) == before
    assert coe("move", file) == 0


def test_nothing_is_moved_where_something_is_in_the_way(tmp_path: Path, capsys: Captured) -> None:
    older_layout(tmp_path)
    file = written(tmp_path, ALL)
    BatchStore.open(Path(os.environ["COE_STATE"]) / "batches" / "batches.sqlite").close()
    before = left(file)
    assert coe("move", file) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"coe: batches.folder: both {tmp_path}/batches and ")
    assert left(file) == before


def test_where_things_are_is_shown(tmp_path: Path, capsys: Captured) -> None:
    file = written(tmp_path, ALL + "state: kept\n")
    AccountStore.open(tmp_path / "kept" / "accounts.sqlite", create=True).close()
    assert coe("show", file) == 0
    shown = capsys.readouterr().out
    assert all(setting in shown for setting in ("state", *KEPT))
