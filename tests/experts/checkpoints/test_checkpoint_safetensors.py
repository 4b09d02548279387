"""The safetensors header is read as the format says, and a damaged file is told from a good one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from experts.checkpoints.safetensors_header import read_header, read_headers
from experts.checkpoints.safetensors_writer import TensorShape, write_tensors
from experts.errors import CheckpointMissing, CheckpointUnreadable


def with_header(path: Path, header: object, data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_names_shapes_dtypes_and_offsets_are_read(tmp_path: Path) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "b": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a": np.array([7], dtype=np.float32),
        "scalar": np.array(1.0),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    content = (tmp_path / "x.safetensors").read_bytes()
    a, b, scalar = read_header(tmp_path / "x.safetensors")
    assert (a.name, a.dtype, a.shape) == ("a", "F32", (1,))
    assert (b.name, b.dtype, b.shape, b.parameters) == ("b", "F16", (2, 3), 6)
    assert (scalar.shape, scalar.parameters) == ((), 1)
    assert content[b.start : b.end] == tensors["b"].tobytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a safetensors file"),
        (b"\xff" * 20, "not a safetensors file"),
        (b"\x02" + bytes(7) + b"[]", "not a JSON object"),
        (b"\x02" + bytes(7) + b"{{", "not a JSON object"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match=said):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("entry", "data", "said"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, 7, "truncated: tensor w ends"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, 8, "does not fit its 8 bytes"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}, 8, "does not fit"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, 12, "starts at"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, 9, "1 bytes after the last tensor"),
        ({"dtype": "Q3", "shape": [2], "data_offsets": [0, 8]}, 8, "malformed header entry"),
        ({"shape": [2]}, 8, "malformed header entry"),
        ("w", 8, "malformed header entry"),
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(
    tmp_path: Path, entry: object, data: int, said: str
) -> None:
    path = with_header(tmp_path / "x.safetensors", {"w": entry}, bytes(data))
    with pytest.raises(CheckpointUnreadable, match=rf"x.safetensors: .*{said}"):
        read_header(path)


def test_a_missing_file_and_an_empty_folder_are_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match=r"x.safetensors"):
        read_header(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointMissing, match=r"no \*.safetensors file"):
        read_headers(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"w": np.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointUnreadable, match="tensor w is in two files"):
        read_headers(tmp_path)


def test_what_is_written_is_what_the_library_reads(tmp_path: Path) -> None:
    shapes = [TensorShape("b", (2, 3)), TensorShape("a", (5,))]
    tensors = [np.arange(6, dtype=np.float32).reshape(3, 2).T, np.ones(5, dtype=np.float32)]
    done: list[int] = []
    write_tensors(tmp_path / "x.safetensors", shapes, iter(tensors), lambda _, now, total: done.append(now))
    read = load_file(tmp_path / "x.safetensors")
    assert np.array_equal(read["b"], tensors[0])
    assert np.array_equal(read["a"], tensors[1])
    assert done == [24, 44]
    assert [tensor.name for tensor in read_header(tmp_path / "x.safetensors")] == ["a", "b"]


def test_a_tensor_of_another_shape_or_type_is_not_written(tmp_path: Path) -> None:
    for wrong in (np.ones(2, dtype=np.float32), np.ones(1, dtype=np.float64)):
        with pytest.raises(ValueError, match="w is"):
            write_tensors(tmp_path / "x.safetensors", [TensorShape("w", (1,))], [wrong])  # type: ignore[list-item]
