"""Surveys the experts of a configuration that is there, to find families that a new one may join."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from experts.spec import CheckpointSource
from experts.survey.candidate import Adapter, Found, FullWeights, Place
from experts.survey.families import Group, why_unfit
from experts.survey.survey import looked_at
from experts.survey.vllm_support import VllmSupport
from server.config.settings import Settings


class Existing:
    """Facts about the experts of ``settings``, by views in ``views``. Those that ship are not looked at:
    a view of one takes as long as preparing it."""

    def __init__(self, settings: Settings, views: Path, support: VllmSupport | None, platform: str) -> None:
        self.settings = settings
        self.found: dict[str, Found] = {}
        self.bases: dict[str, FullWeights] = {}

        def look(source: CheckpointSource, name: str) -> Found | None:
            if source.embedded is not None:
                return None
            seen = looked_at(Place(name, source), views / name, support, platform)
            return seen if isinstance(seen, FullWeights | Adapter) else None

        for name, expert in settings.experts.items():
            if (seen := look(expert.checkpoint, name)) is not None:
                self.found[name] = seen
        for name, family in settings.families.items():
            if family.base is not None:
                base = look(family.base, f"{name}.base")
                if isinstance(base, FullWeights):
                    self.bases[name] = base

    @property
    def sources(self) -> frozenset[CheckpointSource]:
        """The checkpoints that are there already."""
        return frozenset(expert.checkpoint for expert in self.settings.experts.values())

    @property
    def names(self) -> frozenset[str]:
        """Names that are taken."""
        settings = self.settings
        return frozenset((*settings.experts, *settings.families, *settings.compositions))

    def joined_by(self, group: Group) -> str | None:
        """Returns the family that a group's experts can be added to; None: there is none."""
        return next(iter(self._joined_by(group)), None)

    def _joined_by(self, group: Group) -> Iterator[str]:
        for name, family in self.settings.families.items():
            if family.mode == "simulated" or family.task != group.task:
                continue
            if group.base is not None:
                if family.base == group.base or self._fits(name, group):
                    yield name
            elif family.base is None and group.leader.traits.fingerprint in self._fingerprints(name):
                yield name

    def _fits(self, family: str, group: Group) -> bool:
        """Whether a LoRA family's base is the group's in another place."""
        base = self.bases.get(family)
        same = base is not None and base.traits.fingerprint == group.leader.traits.fingerprint
        return (
            same
            and base is not None
            and group.leader.place.source == base.place.source
            and all(why_unfit(adapter, base) is None for adapter in group.adapters)
        )

    def _fingerprints(self, family: str) -> set[str]:
        return {
            each.traits.fingerprint
            for name, each in self.found.items()
            if isinstance(each, FullWeights) and self.settings.experts[name].family == family
        }


def known_bases(existing: Existing | None) -> Mapping[str, FullWeights]:
    """Full weights that adapters may be of, beside those that are named: an existing configuration's."""
    return {} if existing is None else {**existing.bases, **{
        name: each for name, each in existing.found.items() if isinstance(each, FullWeights)
    }}  # fmt: skip
