"""Everything that can go wrong with the router.

RouterError
├── ArtifactError     an artifact folder is missing, damaged, or of another version
├── EmbedderError     the embedding model is not installed, is not the file it should be, or does not answer
├── DatasetError      a line of training or test data is wrong; carries its number
├── EndpointError     a model's endpoint cannot be reached, or refuses the key, the model or all that is asked
│   └── PromptRefused it refuses this prompt; others may be answered
├── JudgingError      the file in which judging keeps replies cannot be used
├── MappingError      a category or expert of a mapping does not exist, or `general` has no expert
└── NoEligibleError   every expert of the mapping was ruled out for this request
"""

from pathlib import Path


class RouterError(Exception):
    """Root of the tree. The message says what to do next."""


class ArtifactError(RouterError):
    pass


class EmbedderError(RouterError):
    pass


class DatasetError(RouterError):
    """``line`` counts from 1; 0 means the file as a whole, which the message names."""

    def __init__(self, message: str, *, file: Path | None = None, line: int = 0) -> None:
        named = "" if file is None else f"{file}, "
        super().__init__(f"{named}line {line}: {message}" if line else message)
        self.line = line


class EndpointError(RouterError):
    pass


class PromptRefused(EndpointError):
    pass


class JudgingError(RouterError):
    pass


class MappingError(RouterError):
    pass


class NoEligibleError(RouterError):
    pass
