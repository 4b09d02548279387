"""Surveys places: inspects what is at each, and tells what is found from what is left out."""

from collections.abc import Callable, Iterable
from pathlib import Path

from experts.errors import CheckpointError
from experts.survey.candidate import Adapter, FullWeights, LeftOut, Place, Survey
from experts.survey.inspection import inspected
from experts.survey.places import distinct, places_of
from experts.survey.view import view_of
from experts.survey.vllm_support import VllmSupport


def survey(
    named: Iterable[str],
    views: Path,
    support: VllmSupport | None,
    platform: str,
    say: Callable[[str], None] = lambda shown: None,
) -> Survey:
    """Looks at everything ``named``; ``views``: a folder for views, kept as long as the survey. ``say`` is
    told each place before it is looked at. Raises CheckpointMissing for a name of nothing."""
    full: list[FullWeights] = []
    adapters: list[Adapter] = []
    left_out: list[LeftOut] = []
    for place in distinct(found for name in named for found in places_of(name)):
        if isinstance(place, LeftOut):
            left_out.append(place)
            continue
        say(place.shown)
        match looked_at(place, views / str(len(full) + len(adapters) + len(left_out)), support, platform):
            case FullWeights() as weights:
                full.append(weights)
            case Adapter() as adapter:
                adapters.append(adapter)
            case LeftOut() as reason:
                left_out.append(reason)
    return Survey(tuple(full), tuple(adapters), tuple(left_out))


def looked_at(
    place: Place, view: Path, support: VllmSupport | None, platform: str
) -> FullWeights | Adapter | LeftOut:
    """Inspects one place by a view of it, which is made in ``view``."""
    try:
        return inspected(place, view_of(place.source, view), support, platform)
    except CheckpointError as error:
        return LeftOut(place.shown, _of_source(str(error), view, place))


def _of_source(message: str, view: Path, place: Place) -> str:
    """The message with names of the checkpoint's own files, in place of those of its view."""
    own = "" if place.source.folder is None else f"{place.source.folder}/"
    return message.replace(f"{view}/", own).replace(f"{view}: ", "")
