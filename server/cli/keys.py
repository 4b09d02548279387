"""``coe keys``: make, list, revoke and rotate API keys. A running gateway heeds it at once."""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from pydantic import ValidationError
from rich.table import Table

from server.access.account_store import AccountStore, MadeKey, opened
from server.access.listed_keys import LIMITS, listed, written
from server.cli.arguments import Parent, add_verb
from server.cli.output import console
from server.cli.tables import table
from server.config.api_keys import HASH, PRIORITIES, Key, KeyConfig, digest_of, hashed_of, new_secret
from server.config.settings import Settings, SettingsError, load
from server.validation import problem_of

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_to(parent: Parent) -> None:
    keys = parent.add_parser("keys", help="API keys: make, list, revoke, rotate")
    verbs = keys.add_subparsers(required=True, metavar="VERB")
    created = add_verb(verbs, "create", create, "make an API key, and print its secret this once")
    created.add_argument("name", metavar="NAME", help="by which its usage is counted, for ever")
    created.add_argument("--models", nargs="+", metavar="MODEL", help="which it may ask for; any by default")
    for limit in LIMITS:
        created.add_argument(
            f"--{limit.replace('_', '-')}", type=int, metavar="N", help="unlimited by default"
        )
    created.add_argument(
        "--priority", choices=PRIORITIES, help="its requests' priority, and the highest they may ask for"
    )
    created.add_argument(
        "--yaml", action="store_true", help="keep nothing; print an entry for server.api_keys, with the hash"
    )
    shown = add_verb(verbs, "list", list_keys, "the keys, their limits, and which are valid")
    shown.add_argument("--json", action="store_true", help="print them as JSON")
    revoked = add_verb(verbs, "revoke", revoke, "end an API key, now and for good")
    revoked.add_argument("name", metavar="NAME", help="of the key")
    rotated = add_verb(verbs, "rotate", rotate, "give an API key a new secret, and print it this once")
    rotated.add_argument("name", metavar="NAME", help="of the key")
    rotated.add_argument(
        "--grace", default="0s", metavar="TIME", help="how long the old secret opens still: 30m, 24h, 7d; 0s"
    )


def create(options: argparse.Namespace) -> int:
    settings = load(options.config)
    secret = new_secret()
    entry = _entry(options, secret, settings)
    _check_name(entry.hashed.key, settings)
    if options.yaml:
        print(yaml.safe_dump([_written(entry, secret)], sort_keys=False), end="")
        _say(f"Put this entry under server.api_keys. The secret, shown this once: {secret}")
        return 0
    with opened(settings.accounts.file, create=True) as store:
        store.create(entry.hashed.key, secret, time.time())
    _say(f"The key {options.name!r} is made. Its secret is shown this once:")
    print(secret)
    return 0


def list_keys(options: argparse.Namespace) -> int:
    settings = load(options.config)
    configured = [hashed_of(key).key for key in settings.server.api_keys]
    with opened(settings.accounts.file, create=True) as store:
        made = store.made_keys()
    if options.json:
        print(json.dumps(listed(configured, made), indent=2))
    else:
        console().print(_rows(configured, made, time.time()))
    return 0


def revoke(options: argparse.Namespace) -> int:
    with _store_of(options) as store:
        store.revoke(options.name, time.time())
    print(f"{options.name}: revoked")
    return 0


def rotate(options: argparse.Namespace) -> int:
    grace_s = _seconds(options.grace)
    secret, now = new_secret(), time.time()
    with _store_of(options) as store:
        store.rotate(options.name, secret, now, grace_s)
    until = f"until {written(now + grace_s)}" if grace_s else "no more"
    _say(f"The old secret of {options.name!r} opens {until}. The new one is shown this once:")
    print(secret)
    return 0


@contextmanager
def _store_of(options: argparse.Namespace) -> Iterator[AccountStore]:
    """Opens the accounts' file to change a key. Raises SettingsError for one of the configuration."""
    settings = load(options.config)
    if options.name in {hashed_of(key).key.name for key in settings.server.api_keys}:
        raise SettingsError(f"the key {options.name!r} is in {options.config}: change server.api_keys there")
    with opened(settings.accounts.file, create=True) as store:
        yield store


def _entry(options: argparse.Namespace, secret: str, settings: Settings) -> KeyConfig:
    """Raises SettingsError."""
    limits = {limit: getattr(options, limit) for limit in LIMITS}
    try:
        settings.check_models(options.models or (), "--models")
        return KeyConfig.model_validate(
            {"key": secret, "name": options.name, "models": options.models, "priority": options.priority}
            | limits
        )
    except ValidationError as error:
        problem = problem_of(error)
        field = str(problem.location[0])
        where = "NAME" if field == "name" else f"--{field.replace('_', '-')}"
        raise SettingsError(f"{where}: {problem.reason}") from error
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _check_name(key: Key, settings: Settings) -> None:
    if key.name in {hashed_of(each).key.name for each in settings.server.api_keys}:
        raise SettingsError(f"server.api_keys has a key named {key.name!r}; take another name")


def _written(entry: KeyConfig, secret: str) -> dict[str, Any]:
    """Returns the entry with the hash in the place of the secret."""
    hashed = {"key": HASH + digest_of(secret.encode()).hex()}
    return hashed | entry.model_dump(mode="json", exclude={"key"}, exclude_none=True)


def _rows(configured: Sequence[Key], made: Sequence[MadeKey], now: float) -> Table:
    limits = ("requests/min", "tokens/min", "at once", "tokens/day")
    shown = table("key", "opens", "models", "priority", *limits, numbers=limits)
    for key in configured:
        shown.add_row(key.name, "by the configuration", *_cells(key))
    for each in made:
        shown.add_row(each.key.name, _opens(each, now), *_cells(each.key))
    return shown


def _opens(made: MadeKey, now: float) -> str:
    if made.revoked is not None:
        return f"revoked {written(made.revoked)}"
    return "\n".join(
        f"{secret.shown}..."
        if secret.expires is None
        else f"{secret.shown}... until {written(secret.expires)}"
        for secret in made.secrets
        if secret.expires is None or secret.expires > now
    )


def _cells(key: Key) -> list[str]:
    limits = [getattr(key.limits, limit) for limit in LIMITS]
    models = "any" if key.models is None else ", ".join(sorted(key.models)) or "none"
    return [models, key.priority or "any", *("-" if limit is None else f"{limit:,}" for limit in limits)]


def _seconds(text: str) -> float:
    given = re.fullmatch(r"(\d+)([smhd])", text)
    if given is None:
        raise SettingsError(f"--grace {text}: not a time such as 30m, 24h or 7d")
    return float(int(given[1]) * _UNITS_S[given[2]])


def _say(text: str) -> None:
    """Prints a message for people on standard error, beside the output for programs."""
    print(text, file=sys.stderr)
