"""Proposes a configuration: surveys, groups, drafts, proves, and leaves out what would not be served."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from experts.errors import ExpertsError
from experts.survey.candidate import FullWeights, LeftOut, Survey
from experts.survey.families import Group, grouped, with_template
from experts.survey.survey import survey
from experts.survey.vllm_support import vllm_support
from experts.vllm_version import installed_vllm
from memory_tiers.errors import TiersError
from router.artifacts.artifact import Artifact
from router.errors import RouterError
from server.config.settings import SettingsError, load
from server.proposal.addition import with_added
from server.proposal.composition import Composed, composed
from server.proposal.document import document
from server.proposal.draft import Draft, drafted
from server.proposal.existing import Existing, known_bases
from server.proposal.proof import Proof, proven
from server.proposal.summary import budget_lines, sizes_of

REFUSED = (ExpertsError, TiersError, RouterError, SettingsError)
NO_TEMPLATE = (
    "it has no chat template: put a chat_template.jinja into its folder (a model that was never taught to "
    "chat has none, and answers as one should not be trusted to)"
)


class Questions(Protocol):
    """Asks the user what no file says."""

    def template(self, candidate: FullWeights) -> Path | None:
        """Returns the chat template of a model without one; None: leave it out."""
        ...

    def mapping(self, draft: Draft, artifact: Path | None) -> Mapping[str, str]:
        """Returns categories and the experts that answer them, as far as the user says."""
        ...


class NoQuestions:
    """Never asks."""

    def template(self, candidate: FullWeights) -> Path | None:
        return None

    def mapping(self, draft: Draft, artifact: Path | None) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class Proposal:
    """``text``: of the file, whole. ``proof``: None where nothing new is in it."""

    text: str
    draft: Draft
    proof: Proof | None
    left_out: tuple[LeftOut, ...]
    apart: tuple[str, ...]
    there: tuple[str, ...] = ()
    """Checkpoints that the file had already."""
    composition: Composed | None = None
    joined: Mapping[str, str] = field(default_factory=dict)


def propose(
    named: Sequence[str],
    out: Path,
    questions: Questions,
    artifact: Path | None = None,
    say: Callable[[str], None] = lambda shown: None,
) -> Proposal:
    """Proposes the text of ``out`` with the checkpoints ``named``, added to what it has. Writes nothing but
    temporary files. Raises CheckpointMissing for a name of nothing, SettingsError where ``out`` cannot be
    read or written or no checkpoint could be served, ArtifactError."""
    out = out.resolve()
    if out.exists() and not out.is_file():
        raise SettingsError(f"--out {out}: is a {'folder' if out.is_dir() else 'device'}; name a file")
    with _drafted(out, ""):  # what is wrong with the command is not said of each checkpoint
        pass
    if artifact is not None:
        Artifact.read(artifact)
    with tempfile.TemporaryDirectory(prefix="coe-init-") as folder:
        return _Proposing(out, Path(folder), questions, artifact).of(named, say)


class _Proposing:
    def __init__(self, out: Path, temporary: Path, questions: Questions, artifact: Path | None) -> None:
        self._out = out
        self._temporary = temporary
        self._questions = questions
        self._artifact = artifact
        self._support = vllm_support()
        vllm = installed_vllm()
        self._platform = vllm.platform if vllm is not None else "cpu"
        self._proofs = 0
        self._existing = self._read() if out.exists() else None

    def _read(self) -> Existing:
        settings = load(self._out)
        return Existing(settings, self._temporary / "existing", self._support, self._platform)

    def of(self, named: Sequence[str], say: Callable[[str], None]) -> Proposal:
        found = survey(named, self._temporary / "views", self._support, self._platform, say)
        found, there = self._new(found)
        full, without = self._with_templates(found.full)
        made = grouped(full, found.adapters, [*known_bases(self._existing).values()])
        left_out = [*found.left_out, *without, *made.left_out]
        groups, refused = self._servable(made.groups)
        left_out += refused
        if not groups:
            return self._nothing(named, left_out, there)
        draft, composition, proof = self._tried(groups, asked=True)
        text = self._text(draft, composition, proof)
        return Proposal(
            text, draft, proof, tuple(left_out), made.apart, tuple(there), composition, self._joined(draft)
        )

    def _joined(self, draft: Draft) -> dict[str, str]:
        return {
            name: entry.fields["family"]
            for name, entry in draft.experts.items()
            if entry.fields["family"] not in draft.families
        }

    def _nothing(self, named: Sequence[str], left_out: list[LeftOut], there: list[str]) -> Proposal:
        if there and not left_out and self._existing is not None:
            text = self._out.read_text(encoding="utf-8")
            return Proposal(text, Draft({}, {}, {}), None, (), (), tuple(there))
        said = "; ".join(f"{each.shown}: {each.reason}" for each in left_out) or "nothing was named"
        raise SettingsError(f"{self._out}: not written, for no checkpoint can be served: {said}")

    def _new(self, found: Survey) -> tuple[Survey, list[str]]:
        """Parts what the configuration has already."""
        if self._existing is None:
            return found, []
        sources = self._existing.sources
        places = [*(each.place for each in found.full), *(each.place for each in found.adapters)]
        there = [place.shown for place in places if place.source in sources]
        full = tuple(each for each in found.full if each.place.source not in sources)
        adapters = tuple(each for each in found.adapters if each.place.source not in sources)
        return Survey(full, adapters, found.left_out), there

    def _with_templates(self, full: Sequence[FullWeights]) -> tuple[list[FullWeights], list[LeftOut]]:
        complete, without = [], []
        for each in full:
            if each.has_template:
                complete.append(each)
            elif (template := self._questions.template(each)) is not None:
                complete.append(with_template(each, template.expanduser().resolve()))
            else:
                without.append(LeftOut(each.place.shown, NO_TEMPLATE))
        return complete, without

    def _servable(self, groups: Sequence[Group]) -> tuple[list[Group], list[LeftOut]]:
        """Leaves out the groups with which the configuration would be refused: all at once first, else one
        after the other."""
        if not groups:
            return [], []
        try:
            self._tried(groups)
            return [*groups], []
        except REFUSED as error:
            if len(groups) == 1:
                return [], self._refused(groups[0], error)
        kept: list[Group] = []
        refused: list[LeftOut] = []
        for group in groups:
            try:
                self._tried([*kept, group])
                kept.append(group)
            except REFUSED as error:
                refused += self._refused(group, error)
        return kept, refused

    def _refused(self, group: Group, error: Exception) -> list[LeftOut]:
        reason = str(error).removeprefix(f"{_draft_file(self._out)}: ")
        return [LeftOut(each.place.shown, reason) for each in group.members]

    def _tried(self, groups: Sequence[Group], *, asked: bool = False) -> tuple[Draft, Composed | None, Proof]:
        """Drafts and proves. Raises what ``coe serve`` would refuse the configuration with."""
        existing = self._existing
        joins = {}
        if existing is not None:
            found = [(place, existing.joined_by(group)) for place, group in enumerate(groups)]
            joins = {place: family for place, family in found if family is not None}
        draft = drafted(groups, self._out.parent, existing.names if existing else (), joins)
        composition = None
        if existing is None:
            answers = self._questions.mapping(draft, self._artifact) if asked else {}
            composition = composed(draft, self._artifact, self._out.parent, answers)
        return draft, composition, self._proven(self._text(draft, composition), draft)

    def _proven(self, text: str, draft: Draft) -> Proof:
        existing = self._existing
        found = {**(existing.found if existing else {}), **draft.found}
        bases = {**(existing.bases if existing else {}), **draft.bases}
        self._proofs += 1
        store = self._temporary / f"store-{self._proofs}"
        store.mkdir()
        with _drafted(self._out, text) as draft_file:
            return proven(draft_file, found, bases, store)

    def _text(self, draft: Draft, composition: Composed | None, proof: Proof | None = None) -> str:
        if self._existing is not None:
            return with_added(self._out.read_text(encoding="utf-8"), draft, str(self._out))
        budgets = () if proof is None else budget_lines(proof)
        sizes = {} if proof is None else sizes_of(proof)
        return document(self._out.name, draft, composition, budgets, sizes)


def _draft_file(out: Path) -> Path:
    """Names the file that ``out`` is tried as, beside it: its relative paths mean the same."""
    return out.with_name(f".{out.name}.draft")


@contextmanager
def _drafted(out: Path, text: str) -> Iterator[Path]:
    """Has a file beside ``out`` hold ``text`` for a while. Raises SettingsError."""
    path = _draft_file(out)
    try:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--out {out}: cannot be written: {error.strerror}") from error
        yield path
    finally:
        if path.exists():  # also what a full disk cut off
            path.unlink()
