"""State lies in one folder, and an older layout is found and named."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from router.settings import EMBEDDED, FIVE_EXPERTS
from server.access.account_store import AccountStore
from server.batches.store import BatchStore
from server.config.installation import checkout, default_state, shipped_configs
from server.config.older_layout import left_behind
from server.config.places import KEPT, kept_at
from server.config.settings import SettingsError, load, read
from tests.server.config.test_settings import MINIMAL

ALL = MINIMAL.replace("host: 1GB", "host: 1GB, event_log: events.jsonl") + (
    "feedback: {consent: true}\nbatches: {}\nresponses: {file: responses.sqlite}\n"
)


def written(folder: Path, text: str = MINIMAL) -> Path:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_everything_that_is_kept_is_in_the_state_folder(tmp_path: Path) -> None:
    settings = load(written(tmp_path, ALL + "state: kept\n"))
    state = tmp_path / "kept"
    assert {setting: kept_at(settings, setting) for setting in KEPT} == {
        "store": state / "models",
        "logs": state / "logs",
        "accounts.file": state / "accounts.sqlite",
        "feedback.file": state / "feedback.sqlite",
        "batches.folder": state / "batches",
        "responses.file": state / "responses.sqlite",
        "tiers.event_log": state / "events.jsonl",
    }


def test_no_database_is_kept_that_nobody_asked_for(tmp_path: Path) -> None:
    settings = load(written(tmp_path))
    unsaid = {setting for setting in KEPT if kept_at(settings, setting) is None}
    assert unsaid == {"feedback.file", "batches.folder", "responses.file", "tiers.event_log"}


def test_an_absolute_path_is_what_it_is(tmp_path: Path) -> None:
    text = f"state: kept\nstore: {tmp_path}/models\naccounts: {{file: {tmp_path}/keys.sqlite}}\n"
    settings = load(written(tmp_path, MINIMAL + text))
    assert (settings.store, settings.accounts.file) == (tmp_path / "models", tmp_path / "keys.sqlite")


def test_without_a_state_folder_it_is_the_environments_or_the_checkouts_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(written(tmp_path)).state == Path(os.environ["COE_STATE"])
    root = checkout()
    assert root is not None
    assert default_state({}) == root / ".state"
    monkeypatch.setattr("server.config.installation._ROOT", tmp_path)  # where no checkout is
    assert checkout() is None
    assert default_state({"XDG_STATE_HOME": "/var/lib/me"}) == Path("/var/lib/me/coe")
    assert default_state({"XDG_STATE_HOME": "not/absolute"}) == Path.home() / ".local/state/coe"


def test_the_shipped_router_and_configurations_are_found_wherever_they_are(tmp_path: Path) -> None:
    text = (
        MINIMAL
        + "compositions: {a: {artifact: embedded}, b: {artifact: ./embedded}, c: {artifact: five-experts}}\n"
    )
    compositions = load(written(tmp_path, text)).compositions
    assert compositions["a"].artifact == EMBEDDED
    assert compositions["b"].artifact == tmp_path / "embedded"
    assert compositions["c"].artifact == FIVE_EXPERTS
    assert (shipped_configs() / "embedded.yaml").is_file()


def prepared(store: Path, expert: str = "law") -> None:
    (store / expert).mkdir(parents=True)
    (store / expert / "coe.json").write_text("{}")


def left(file: Path) -> list[tuple[str, str]]:
    """Settings, and the names at the older place."""
    found = left_behind(read(file), file.parent)
    return [(each.setting, each.old.relative_to(file.parent).as_posix()) for each in found]


def older_layout(folder: Path) -> None:
    prepared(folder / ".models")
    (folder / "logs").mkdir()
    for name in ("logs/small.log", "logs/of another program.log", "events.jsonl"):
        (folder / name).write_text("once")
    for name in ("accounts", "feedback", "responses"):
        AccountStore.open(folder / f"{name}.sqlite", create=True).close()  # by its id it is one of ours
    BatchStore.open(folder / "batches" / "batches.sqlite").close()


def test_what_an_older_version_kept_is_found(tmp_path: Path) -> None:
    file = written(tmp_path, ALL)
    assert left(file) == []
    older_layout(tmp_path)
    assert left(file) == [
        ("store", ".models"),
        ("logs", "logs/small.log"),
        ("accounts.file", "accounts.sqlite"),
        ("feedback.file", "feedback.sqlite"),
        ("batches.folder", "batches"),
        ("responses.file", "responses.sqlite"),
        ("tiers.event_log", "events.jsonl"),
    ]
    assert left(written(tmp_path, ALL + "state: .\nstore: .models\n")) == []


def test_what_others_keep_there_is_let_alone(tmp_path: Path) -> None:
    file = written(tmp_path, ALL)
    prepared(tmp_path / ".models", "an expert of another configuration")
    for name in ("logs", "batches"):
        (tmp_path / name).mkdir()
    (tmp_path / "feedback.sqlite").write_text("some text")
    with closing(sqlite3.connect(tmp_path / "accounts.sqlite")) as database:
        database.execute("CREATE TABLE cookies (x)")
    assert left(file) == []
    load(file)


def test_nothing_is_read_before_it_is_moved(tmp_path: Path) -> None:
    file = written(tmp_path)
    AccountStore.open(tmp_path / "accounts.sqlite", create=True).close()
    with pytest.raises(SettingsError) as caught:
        load(file)
    new = Path(os.environ["COE_STATE"]) / "accounts.sqlite"
    assert str(caught.value) == (
        f"{file}: accounts.file: an older version kept it at {tmp_path}/accounts.sqlite; move it to {new} "
        f"with: coe state move --config {file}"
    )
    AccountStore.open(new, create=True).close()
    with pytest.raises(SettingsError, match="remove the one that you do not need, or give"):
        load(file)


def test_prepared_experts_that_are_at_both_places_are_no_question(tmp_path: Path) -> None:
    file = written(tmp_path)
    prepared(tmp_path / ".models")
    with pytest.raises(SettingsError, match=r"store: an older version kept it at .*/\.models; move it"):
        load(file)
    prepared(Path(os.environ["COE_STATE"]) / "models")
    load(file)


def test_of_a_checkout_the_shipped_configurations_older_folders_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr("server.config.installation._ROOT", tmp_path)
    monkeypatch.delenv("COE_STATE")
    for name, store in (("embedded", ".models"), ("lora", ".models-lora")):
        text = "" if name == "embedded" else "store: models-lora\n"
        (tmp_path / "configs" / f"{name}.yaml").write_text(MINIMAL + text)
        prepared(tmp_path / store)
        (found,) = left_behind(read(tmp_path / "configs" / f"{name}.yaml"), tmp_path / "configs")
        assert (found.old, found.new) == (
            tmp_path / store,
            tmp_path / ".state" / store.removeprefix("."),
        )
