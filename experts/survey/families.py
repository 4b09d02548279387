"""Groups candidates into families, each of which shares one engine, and says why the others do not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from experts.checkpoints.fingerprint import differences_of
from experts.errors import CheckpointError
from experts.spec import CheckpointSource, Task
from experts.survey.candidate import Adapter, Found, FullWeights, LeftOut, Parsers


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates that share an engine: full weights that take turns, or adapters of ``base``, which ``full``
    then is where it is an expert itself."""

    leader: FullWeights
    full: tuple[FullWeights, ...]
    adapters: tuple[Adapter, ...] = ()
    base: CheckpointSource | None = None

    @property
    def task(self) -> Task:
        return self.leader.task

    @property
    def parsers(self) -> Parsers:
        """The parsers that all of the family's engine has: the first of each that a member names."""
        members = (self.leader, *self.full)
        return Parsers(
            next((each.parsers.tool for each in members if each.parsers.tool), None),
            next((each.parsers.reasoning for each in members if each.parsers.reasoning), None),
        )

    @property
    def members(self) -> tuple[Found, ...]:
        return (*self.full, *self.adapters)


@dataclass(frozen=True, slots=True)
class Grouped:
    """``apart``: lines that say why experts that look alike do not share an engine."""

    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    apart: tuple[str, ...]


def grouped(
    full: Sequence[FullWeights], adapters: Sequence[Adapter], bases: Sequence[FullWeights] = ()
) -> Grouped:
    """Groups what was found. ``bases``: further full weights that adapters may be of; they become no
    expert."""
    served = {each.place.source for each in full}
    of_base: dict[CheckpointSource, list[Adapter]] = {}
    left_out: list[LeftOut] = []
    known = {each.place.source: each for each in (*full, *bases)}
    for adapter in adapters:
        found = _base_of(adapter, [*known.values()])
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            of_base.setdefault(found.place.source, []).append(adapter)
    groups = []
    for source, members in of_base.items():
        base = known[source]
        itself = (base,) if source in served else ()
        groups.append(Group(base, itself, tuple(members), source))
    turns: dict[tuple[Task, str], list[FullWeights]] = {}
    for each in full:
        if each.place.source not in of_base:
            turns.setdefault((each.task, each.traits.fingerprint), []).append(each)
    groups += [Group(members[0], tuple(members)) for members in turns.values()]
    return Grouped(tuple(groups), tuple(left_out), tuple(_apart([group for group in groups if group.full])))


def _base_of(adapter: Adapter, bases: Sequence[FullWeights]) -> FullWeights | LeftOut:
    """Finds an adapter's base: the one it names, else the only one that it fits."""
    reasons = {}
    fitting = []
    for base in bases:
        reason = why_unfit(adapter, base)
        if reason is None:
            fitting.append(base)
        reasons[base.place.source] = reason
    called = [base for base in bases if _is_called(base, adapter.base)]
    for base in called:
        if (reason := reasons[base.place.source]) is None:
            return base
        return LeftOut(adapter.place.shown, f"does not fit {base.place.shown}, its base: {reason}")
    named = adapter.base or "which it does not name"
    if len(fitting) == 1 and not adapter.base:
        return fitting[0]
    if len(fitting) == 1 and not _is_published(adapter.base):
        return fitting[0]  # a path of the machine that trained it says nothing here
    fit = f"; it would fit {' and '.join(base.place.shown for base in fitting)}" if fitting else ""
    return LeftOut(adapter.place.shown, f"is an adapter without its base ({named}); name that too{fit}")


def why_unfit(adapter: Adapter, base: FullWeights) -> str | None:
    """Returns why an adapter cannot be served beside ``base``; None where it can."""
    if base.task != "generate":
        return "an embedding model takes no adapters"
    if base.quantised:
        return f"it is quantised by {base.quantised}, and adapters are served beside whole weights"
    try:
        adapter.weights.check_fits(base.traits.headers)
    except CheckpointError as error:
        return str(error).partition(": ")[2]
    if adapter.tokenizer not in (None, base.traits.tokenizer):
        return "its tokenizer.json is another; an adapter that adds tokens has to be merged into its base"
    return None


def _is_published(name: str) -> bool:
    """Whether a base is named by its repository, and not by a folder of the machine that trained."""
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def _is_called(base: FullWeights, name: str) -> bool:
    if not name:
        return False
    source = base.place.source
    if source.huggingface is not None:
        return source.huggingface == name
    if source.url is not None:
        return name == source.url or PurePath(name).name == source.url.rpartition("/")[2]
    folder = source.folder
    return folder is not None and (Path(name).resolve() == folder or Path(name).name == folder.name)


def _apart(groups: Sequence[Group]) -> Iterable[str]:
    """Says of each group of full weights why it does not share the engine of the one that is most like it."""
    for place, group in enumerate(groups):
        earlier = [each.leader for each in groups[:place] if each.task == group.task]
        if earlier:
            one, other = min(earlier, key=lambda leader: _distance(leader, group.leader)), group.leader
            reason = _difference(one, other)
            yield f"{other.place.shown} does not share an engine with {one.place.shown}: {reason}"


def _distance(one: FullWeights, other: FullWeights) -> tuple[bool, int]:
    unlike = one.kind != other.kind
    return unlike, 0 if unlike else sum(1 for _ in differences_of(one.traits, other.traits))


def _difference(one: FullWeights, other: FullWeights) -> str:
    names = [each.traits.architecture.get("architectures") for each in (one, other)]
    if names[0] != names[1]:
        return f"{_first(names[1])} is another architecture than {_first(names[0])}"
    same = f"{one.place.shown} is the base of adapters, which have an engine of their own"
    return next(differences_of(one.traits, other.traits), same)


def _first(names: object) -> str:
    return str(names[0]) if isinstance(names, list) and names else "its"


def with_template(candidate: FullWeights, template: Path) -> FullWeights:
    """Returns the candidate with a chat template from elsewhere."""
    return replace(candidate, template=template, has_template=True)
