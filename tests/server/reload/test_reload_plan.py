"""What changes between two configurations, and what would need a restart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experts.spec import Expert
from server.config.settings import Settings, SettingsError
from server.reload.plan import ReloadPlan, check_reloadable, plan

Tree = dict[str, Any]


def a_tree(*names: str, **pieces: Any) -> Tree:
    experts = {name: {"family": "f", "checkpoint": {"embedded": name}} for name in names}
    families = {"f": {"mode": "simulated"}, "g": {"mode": "simulated"}}
    return {"tiers": {"device": 100}, "families": families, "experts": experts} | pieces


def settings_of(tree: Tree) -> Settings:
    return Settings.model_validate(tree)


def opened(settings: Settings) -> dict[str, Expert]:
    return {
        name: Expert(name, config.family, Path(name), 10, 5, "print", "", checksums={"file": name})
        for name, config in settings.experts.items()
    }


def planned(old: Tree, new: Tree) -> ReloadPlan:
    before, after = settings_of(old), settings_of(new)
    check_reloadable(before, after)
    return plan(before, after, opened(before), opened(after))


def test_nothing_changes_between_equal_configurations() -> None:
    assert planned(a_tree("a", "b"), a_tree("a", "b")) == ReloadPlan((), (), (), (), None, None)


def test_experts_come_and_go_and_a_family_with_its_first_expert_needs_an_engine() -> None:
    new = a_tree("b", "c")
    new["experts"]["d"] = {"family": "g", "checkpoint": {"embedded": "d"}}
    found = planned(a_tree("a", "b"), new)
    assert [expert.name for expert in found.added] == ["c", "d"]
    assert (found.removed, found.changed, found.families) == (("a",), (), ("g",))


def test_an_expert_with_the_same_weights_is_changed() -> None:
    settings = settings_of(a_tree("a", "b"))
    before = opened(settings)
    after = before | {"a": replace(before["a"], pinned=True, description="new", chat_template="{{ x }}")}
    assert plan(settings, settings, before, after).changed == (after["a"],)


@pytest.mark.parametrize(
    "other", [{"weights_bytes": 11}, {"fingerprint": "another"}, {"checksums": {"file": "other"}}]
)
def test_other_weights_under_a_served_name_are_refused(other: dict[str, Any]) -> None:
    settings = settings_of(a_tree("a", "b"))
    before = opened(settings)
    after = before | {"a": replace(before["a"], **other)}
    with pytest.raises(SettingsError, match=r"experts\.a: it has other weights.* give it a name of its own"):
        plan(settings, settings, before, after)


def test_checksums_that_preparation_added_are_no_other_weights() -> None:
    settings = settings_of(a_tree("a"))
    after = opened(settings)
    before = {"a": replace(after["a"], checksums={})}
    assert plan(settings, settings, before, after).changed == (after["a"],)


@pytest.mark.parametrize("field", ["family", "checkpoint"])
def test_another_source_or_family_under_a_served_name_is_refused(field: str) -> None:
    new = a_tree("a", "b")
    new["experts"]["a"][field] = {"family": "g", "checkpoint": {"embedded": "b"}}[field]
    with pytest.raises(SettingsError, match=r"experts\.a: .* remove the old one first"):
        planned(a_tree("a", "b"), new)


def test_budgets_in_bytes_change() -> None:
    found = planned(
        a_tree("a", tiers={"device": 100, "host": 50}), a_tree("a", tiers={"device": 90, "host": 50})
    )
    assert (found.device, found.host) == (90, None)


def test_budgets_that_stay_auto_stay_the_bytes_they_are() -> None:
    auto = {"device": "auto", "host": "auto"}
    found = planned(a_tree("a", tiers=auto), a_tree("a", "b", tiers=auto))
    assert (found.device, found.host) == (None, None)


@pytest.mark.parametrize(
    ("pieces", "named"),
    [
        ({"store": "elsewhere", "logs": "elsewhere"}, "store, logs"),
        ({"server": {"port": 1, "drain_s": 1}}, "server.port, server.drain_s"),
        ({"tiers": {"device": 100, "policy": "lru"}}, "tiers.policy"),
        ({"tiers": {"device": "auto"}}, "tiers.device (to or from auto)"),
        ({"families": {"f": {"mode": "simulated", "max_model_len": 64}}}, "families.f.max_model_len"),
    ],
)
def test_what_needs_a_restart_is_named(pieces: Tree, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        planned(a_tree("a"), a_tree("a", **pieces))
    message = "cannot change while serving: restart the server, or leave it as it was"
    assert str(refused.value) == f"{named} {message}"


def test_keys_compositions_and_families_without_experts_may_change() -> None:
    new = a_tree(
        "a",
        server={"api_keys": ["new"]},
        compositions={"coe": {"artifact": "router"}},
        families={"f": {"mode": "simulated"}, "g": {"mode": "plain"}, "h": {"mode": "simulated"}},
    )
    assert planned(a_tree("a"), new) == ReloadPlan((), (), (), (), None, None)
