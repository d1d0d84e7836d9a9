"""Arrays in files: what they claim is held against what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxeq import array_files, memory


@pytest.mark.parametrize("dtype", ["<f4", ">i8", "?", "<U3", "<c16"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_what_numpy_writes_passes(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """Any array without objects, alone, in an archive, and in a packed one."""
    array = np.zeros(shape, dtype)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array, y=array)
    np.savez_compressed(tmp_path / "b.npz", x=array)
    for name in ("a.npy", "a.npz", "b.npz"):
        array_files.check(tmp_path / name)


def test_one_byte_less_is_too_few(tmp_path: Path) -> None:
    """Six float32 take 24 bytes behind the header; with the last cut off the file is refused."""
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 3), np.float32))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"needs 24"):
        array_files.check(path)


def test_an_archive_may_take_half_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred packed zeros and their header: allowed where the memory is twice that, and not where it is less."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(200, np.uint8))
    unpacked = 200 + 128
    monkeypatch.setattr(memory, "total", lambda: 2 * unpacked)
    array_files.check(path)
    monkeypatch.setattr(memory, "total", lambda: 2 * unpacked - 2)
    with pytest.raises(ValueError, match="unpacks to 328 bytes, 327 bytes are allowed"):
        array_files.check(path)
