"""A file that is there in full, or as it was before."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_file(file: Path, content: bytes, *, mode: int) -> None:
    """Replaces ``file``, or leaves it as it was and raises OSError. ``mode``: permissions of the new file."""
    descriptor, partial = tempfile.mkstemp(dir=file.parent, prefix=".partial-")
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, mode)
        os.replace(partial, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(partial)
        raise
