"""A repository of Hugging Face's hub, in whose cache the prepared folder's links end."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.checkpoints.sources.folder import UNWANTED, WANTED, link
from experts.checkpoints.sources.source import Space
from experts.errors import CheckpointMissing
from experts.progress import Progress


@dataclass(frozen=True, slots=True)
class HuggingFaceSource:
    """A repository of the hub. Without a pinned commit, what was prepared stays until it is prepared anew."""

    repository: str
    revision: str | None

    @property
    def origin(self) -> str:
        return f"{self.repository}@{self.revision or 'default branch'}"

    def space(self, store: Path) -> Space:
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE)
        return Space(cache, sum(size for size in self._to_download().values()))

    def provide(self, folder: Path, progress: Progress) -> None:
        from huggingface_hub import hf_hub_download, snapshot_download

        wanted = self._to_download()
        done, total = 0, sum(wanted.values())
        try:
            for name, size in wanted.items():
                progress("download", done, total)
                hf_hub_download(self.repository, name, revision=self.revision)
                done += size
            if total:
                progress("download", done, total)
            snapshot = snapshot_download(
                self.repository,
                revision=self.revision,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
            )
        except OSError as error:
            raise missing(self.origin, error) from error
        link(sorted(Path(snapshot).iterdir()), folder)

    def _to_download(self) -> Mapping[str, int]:
        """Lists names and sizes of what the cache lacks; nothing when the hub cannot be asked."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import DryRunError

        try:
            files: Any = snapshot_download(
                self.repository,
                revision=self.revision,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
                dry_run=True,
            )
        except DryRunError:
            return {}
        except OSError as error:
            raise missing(self.origin, error) from error
        return {file.filename: file.file_size or 0 for file in files if file.will_download}


def missing(origin: str, error: OSError) -> Exception:
    """Translates an error of huggingface_hub. All are OSErrors; one with a number is the disk's and stays
    what it is. ``origin``: the repository and its revision."""
    if error.errno is not None:
        return error
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return CheckpointMissing(
        f"Hugging Face repository {origin}: {reason}; check its name, HF_TOKEN if it is gated, "
        "HF_HUB_OFFLINE and HF_ENDPOINT"
    )
