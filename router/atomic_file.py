"""A file that is there in full, or as it was before."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_file(file: Path, content: bytes, *, mode: int) -> None:
    """Replaces ``file``, or leaves it as it was and raises OSError. ``mode``: permissions of the new file.

    What is there and is no file, a device such as /dev/stdout or a pipe, is written to and stays what it is.
    """
    if file.exists() and not file.is_file():
        with file.open("wb") as device:
            device.write(content)
        return
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
