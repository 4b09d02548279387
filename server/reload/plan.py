"""Plans from the served configuration to another: what changes, or what needs a restart."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from experts.spec import Expert, ExpertConfig, Strict
from server.config.settings import Settings, SettingsError

_KEYS = ("api_keys", "require_key", "admin_key", "metrics_key")


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """Changes that a reload makes. ``changed``: experts with the same weights and other settings.
    ``families``: those that need an engine. ``device`` and ``host``: bytes; None: as they are."""

    added: tuple[Expert, ...]
    removed: tuple[str, ...]
    changed: tuple[Expert, ...]
    families: tuple[str, ...]
    device: int | None
    host: int | None


def check_reloadable(old: Settings, new: Settings) -> None:
    """Raises SettingsError naming all that cannot change while serving."""
    fixed = [*_fixed(old, new)]
    if fixed:
        raise SettingsError(
            f"{', '.join(fixed)} cannot change while serving: restart the server, or leave it as it was"
        )
    for name, expert in new.experts.items():
        before = old.experts.get(name)
        if before is not None and _place(before) != _place(expert):
            raise _other_weights(name)


def plan(
    old: Settings, new: Settings, before: Mapping[str, Expert], after: Mapping[str, Expert]
) -> ReloadPlan:
    """Plans a reload. ``before`` and ``after``: the experts of ``old`` and ``new``, which
    ``check_reloadable`` let pass. Raises SettingsError."""
    stay = [name for name in after if name in before]
    for name in stay:
        if _weights_differ(before[name], after[name]):
            raise _other_weights(name)
    return ReloadPlan(
        added=tuple(expert for name, expert in after.items() if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(after[name] for name in stay if after[name] != before[name]),
        families=tuple(sorted(_served(new) - _served(old))),
        device=_budget(old.tiers.device, new.tiers.device),
        host=_budget(old.tiers.host, new.tiers.host),
    )


def _fixed(old: Settings, new: Settings) -> Iterator[str]:
    """Lists what differs and may not, as paths in the configuration."""
    pieces = {"server", "tiers", "families", "experts", "compositions", "aliases"}
    yield from _differences("", old, new, pieces)
    yield from _differences("server.", old.server, new.server, _KEYS)
    yield from _differences("tiers.", old.tiers, new.tiers, {"device", "host"})
    for tier in ("device", "host"):
        budgets = getattr(old.tiers, tier), getattr(new.tiers, tier)
        if budgets[0] != budgets[1] and "auto" in budgets:
            yield f"tiers.{tier} (to or from auto)"
    for name in sorted(_served(old) & _served(new)):
        yield from _differences(f"families.{name}.", old.families[name], new.families[name], ())


def _differences(where: str, old: Strict, new: Strict, free: Collection[str]) -> Iterator[str]:
    for name in type(old).model_fields:
        if name not in free and getattr(old, name) != getattr(new, name):
            yield f"{where}{name}"


def _served(settings: Settings) -> set[str]:
    """Returns the families with an engine."""
    return {expert.family for expert in settings.experts.values()}


def _place(expert: ExpertConfig) -> tuple[object, str]:
    return expert.checkpoint, expert.family


def _weights_differ(before: Expert, after: Expert) -> bool:
    """Says whether the weights differ. Experts that an earlier version prepared have no checksums until they
    are prepared anew."""
    if (before.fingerprint, before.weights_bytes) != (after.fingerprint, after.weights_bytes):
        return True
    return bool(before.checksums) and before.checksums != after.checksums


def _other_weights(name: str) -> SettingsError:
    return SettingsError(
        f"experts.{name}: it has other weights, or another family, than the one that is served: give it a "
        "name of its own, or remove the old one first and add it when that has left"
    )


def _budget(old: object, new: object) -> int | None:
    return new if isinstance(new, int) and new != old else None
