"""The safetensors header is read as the format says, and a damaged file is told from a good one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from experts.checkpoints.safetensors_writer import write_tensors
from experts.checkpoints.tensor_headers import TensorHeader, read_header, read_headers
from experts.errors import CheckpointMissing, CheckpointUnreadable


def with_header(path: Path, header: object, data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_names_shapes_and_dtypes_are_read(tmp_path: Path) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "b": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a": np.array([7], dtype=np.float32),
        "scalar": np.array(1.0),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    a, b, scalar = read_header(tmp_path / "x.safetensors")
    assert (a.name, a.dtype, a.shape) == ("a", "F32", (1,))
    assert (b.name, b.dtype, b.shape, b.parameters) == ("b", "F16", (2, 3), 6)
    assert (scalar.shape, scalar.parameters) == ((), 1)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{{"],
    ids=["empty", "too long a header", "no object", "no JSON"],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match=r"x.safetensors: not a whole safetensors file"):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("entry", "data", "said"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, 7, "file not fully covered"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, 8, "invalid shape, data type, or offset"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}, 8, "invalid value"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, 12, "invalid offset for tensor `w`"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, 9, "file not fully covered"),
        ({"dtype": "Q3", "shape": [2], "data_offsets": [0, 8]}, 8, "unknown variant `Q3`"),
        ({"shape": [2]}, 8, "missing field"),
        ("w", 8, "invalid type"),
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(
    tmp_path: Path, entry: object, data: int, said: str
) -> None:
    path = with_header(tmp_path / "x.safetensors", {"w": entry}, bytes(data))
    with pytest.raises(CheckpointUnreadable, match=rf"x.safetensors: .*{said}"):
        read_header(path)


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    entries = {"v": [0, 8], "w": [4, 12]}
    header = {name: {"dtype": "F32", "shape": [2], "data_offsets": at} for name, at in entries.items()}
    with pytest.raises(CheckpointUnreadable, match=r"invalid offset for tensor `w`"):
        read_header(with_header(tmp_path / "x.safetensors", header, bytes(12)))


def test_a_folder_in_a_file_s_place_is_told_from_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(CheckpointUnreadable, match=r"x.safetensors: cannot be read"):
        read_header(tmp_path / "x.safetensors")


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
    headers = [TensorHeader("b", "F32", (2, 3)), TensorHeader("a", "F32", (5,))]
    tensors = [np.arange(6, dtype=np.float32).reshape(3, 2).T, np.ones(5, dtype=np.float32)]
    done: list[int] = []
    write_tensors(tmp_path / "x.safetensors", headers, iter(tensors), lambda _, now, total: done.append(now))
    read = load_file(tmp_path / "x.safetensors")
    assert np.array_equal(read["b"], tensors[0])
    assert np.array_equal(read["a"], tensors[1])
    assert done == [24, 44]
    assert [tensor.name for tensor in read_header(tmp_path / "x.safetensors")] == ["a", "b"]


def test_a_tensor_of_another_shape_or_type_is_not_written(tmp_path: Path) -> None:
    header = TensorHeader("w", "F32", (1,))
    for wrong in (np.ones(2, dtype=np.float32), np.ones(1, dtype=np.float64)):
        with pytest.raises(ValueError, match=r"<w F32 \[1\]> is given"):
            write_tensors(tmp_path / "x.safetensors", [header], [wrong])  # type: ignore[list-item]
