"""Stories of the requests under way and of the latest that have ended."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator

from server.observation.story import Story, Tokens


class Stories:
    """Keeps every live story, and of the ended ones the latest ``keep``."""

    def __init__(
        self,
        keep: int,
        ended: Callable[[Story], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``ended``: called with each story that ends."""
        self.clock = clock
        self._wall = wall
        self._ended = ended
        self._numbers = itertools.count(1)
        self._live: dict[int, Story] = {}
        self._kept: deque[Story] = deque(maxlen=keep)

    def __repr__(self) -> str:
        return f"<Stories [live: {len(self._live)}, ended: {len(self._kept)}]>"

    def __iter__(self) -> Iterator[Story]:
        """Iterates over the ended stories, then over the live ones, the oldest of each first."""
        return iter([*self._kept, *self._live.values()])

    @property
    def live(self) -> int:
        return len(self._live)

    def begin(self, id: str, path: str, peer: str, tokens: Tokens) -> Story:
        """Begins the story of a request that has just come. ``path``: what it was sent to."""
        story = Story(next(self._numbers), id, path, peer, self.clock(), self._wall(), tokens)
        self._live[story.number] = story
        return story

    def end(self, story: Story, outcome: str) -> None:
        """Ends the story. ``outcome``: the HTTP status, or ``client_left``."""
        story.ended_at, story.outcome, story.cancel = self.clock(), outcome, None
        del self._live[story.number]
        self._kept.append(story)
        self._ended(story)

    def take(self, story: Story, before: Story | None) -> None:
        """Takes in a story that another process tells: as it is there now, in the place of ``before``."""
        story.number = next(self._numbers) if before is None else before.number
        self._live.pop(story.number, None)
        if story.ended_at is None:
            self._live[story.number] = story
        else:
            self._kept.append(story)
            self._ended(story)

    def drop(self, story: Story) -> None:
        """Forgets a live story. Does nothing with one that has ended."""
        self._live.pop(story.number, None)

    def find(self, id: str) -> Story | None:
        """Returns the latest story with this id; a live one before those that have ended."""
        newest = itertools.chain(reversed(self._live.values()), reversed(self._kept))
        return next((story for story in newest if story.id == id), None)
