"""The file of the accounts: keys by their hashes, and usage that adds up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.access.account_store import AccountStore
from server.access.usage import Place, Spent, UsageQuery
from server.config.api_keys import Key, Limits, digest_of, new_secret, shown
from server.storage.errors import NameTaken, NotKept

LAW = Key("law-office", Limits(5, 100, 2, 1000), frozenset({"law", "coe"}), "low")
SECRET = new_secret()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AccountStore]:
    opened = AccountStore.open(tmp_path / "new" / "accounts.sqlite", create=True)
    yield opened
    opened.close()


def found(store: AccountStore, secret: str, at: float) -> Key | None:
    return store.ring(at).keys.find(digest_of(secret.encode()))


def test_a_key_is_found_by_its_secret_with_all_that_it_may(store: AccountStore) -> None:
    store.create(LAW, SECRET, at=10.0)
    store.create(Key("any"), new_secret(), at=11.0)
    assert found(store, SECRET, 12.0) == LAW
    assert found(store, SECRET[:-1], 12.0) is None
    assert [made.key for made in store.made_keys()] == [LAW, Key("any")]


def test_no_secret_is_in_the_files(store: AccountStore) -> None:
    store.create(LAW, SECRET, at=10.0)
    random_part = SECRET.removeprefix(shown(SECRET)).encode()
    assert all(random_part not in file.read_bytes() for file in store.file.parent.iterdir())


def test_each_secret_has_256_random_bits_beside_what_is_shown() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len({secret.removeprefix(shown(secret)) for secret in secrets}) == 100
    assert all(len(secret.removeprefix(shown(secret))) >= 43 for secret in secrets)


def test_a_revoked_key_opens_nothing_and_its_name_stays_taken(store: AccountStore) -> None:
    store.create(LAW, SECRET, at=10.0)
    store.revoke("law-office", at=20.0)
    assert found(store, SECRET, 20.0) is None
    assert store.ring(20.0).keys.ever
    with pytest.raises(NameTaken, match="perhaps a revoked one"):
        store.create(LAW, new_secret(), at=30.0)
    with pytest.raises(NotKept, match="was revoked already; coe keys list shows all"):
        store.revoke("law-office", at=30.0)
    with pytest.raises(NotKept, match="is not there"):
        store.rotate("nobody", new_secret(), at=30.0, grace_s=0.0)


def test_a_rotated_key_opens_with_the_old_secret_for_the_grace_time(store: AccountStore) -> None:
    store.create(LAW, SECRET, at=10.0)
    second, third = new_secret(), new_secret()
    store.rotate("law-office", second, at=20.0, grace_s=5.0)
    ring = store.ring(24.9)
    assert ring.next_expiry == 25.0
    assert found(store, SECRET, 24.9) == found(store, second, 24.9) == LAW
    assert found(store, SECRET, 25.0) is None
    store.rotate("law-office", third, at=22.0, grace_s=100.0)
    assert found(store, SECRET, 25.0) is None  # its end does not move
    assert found(store, second, 121.0) == found(store, third, 121.0) == LAW
    assert found(store, second, 122.0) is None
    store.rotate("law-office", new_secret(), at=130.0, grace_s=0.0)
    assert found(store, third, 130.0) is None


def test_another_connections_changes_are_noticed_and_own_ones_are_not(store: AccountStore) -> None:
    before = store.changes()
    store.add({Place(1, "a", "law"): Spent(requests=1)})
    assert store.changes() == before
    other = AccountStore.open(store.file, create=False)
    other.create(LAW, SECRET, at=10.0)
    other.close()
    assert store.changes() != before


def test_usage_adds_up_in_one_row_a_day_a_key_and_an_expert(store: AccountStore) -> None:
    spent = Spent(requests=1, errors=0, prompt_tokens=10, completion_tokens=5, cached_tokens=2)
    for _ in range(3):
        store.add({Place(1, "a", "law"): spent, Place(2, "a", "law"): spent, Place(1, "b", "-"): spent})
    store.add({Place(1, "a", "math"): Spent(requests=1, errors=1)})
    assert dict(store.usage(UsageQuery())) == {
        Place(1, "a", "law"): Spent(3, 0, 30, 15, 6),
        Place(1, "a", "math"): Spent(1, 1),
        Place(1, "b", "-"): Spent(3, 0, 30, 15, 6),
        Place(2, "a", "law"): Spent(3, 0, 30, 15, 6),
    }
    assert [place.key for place, _ in store.usage(UsageQuery(since=1, until=1, key="b"))] == ["b"]
    assert [place.expert for place, _ in store.usage(UsageQuery(expert="math"))] == ["math"]
    assert store.tokens_of(1) == {"a": 45, "b": 45}
    store.forget_before(2)
    assert [place.day for place, _ in store.usage(UsageQuery())] == [2]
