"""Inputs that are an attack."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
from onnx import TensorProto
from onnx import helper as h

from corpus.case import Shelf
from corpus.models import graph, model, tensor, write

__all__ = ["CASES", "Bomb", "header"]

_shelf = Shelf()
CASES = _shelf.cases


class Bomb:
    """Pickled, it makes a file as soon as it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self._path), 0o777)


def header(shape: str, kind: str = "<f4") -> bytes:
    """The header of a ``.npy`` file without a byte of its array."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


def _with(folder: Path, name: str) -> list[str]:
    return [*write(folder, model(graph([h.make_node("Relu", ["x"], ["y"])]))), "--inputs", str(folder / name)]


def _objects(folder: Path) -> np.ndarray:
    return np.array([Bomb(folder.parent / "OWNED")], dtype=object)


@_shelf.add("pickled objects")
def pickled_npy(folder: Path) -> list[str]:
    np.save(folder / "x.npy", _objects(folder), allow_pickle=True)
    return _with(folder, "x.npy")


@_shelf.add("pickled objects")
def pickled_npz(folder: Path) -> list[str]:
    np.savez(folder / "x.npz", x=_objects(folder), allow_pickle=True)
    return _with(folder, "x.npz")


@_shelf.add("but a pickle")
def bare_pickle(folder: Path) -> list[str]:
    (folder / "x.npy").write_bytes(pickle.dumps(Bomb(folder.parent / "OWNED")))
    return _with(folder, "x.npy")


@_shelf.add("needs 4398046511104")
def npy_of_2_to_the_40(folder: Path) -> list[str]:
    (folder / "x.npy").write_bytes(header(f"({1 << 40},)"))
    return _with(folder, "x.npy")


@_shelf.add("needs")
def npz_of_2_to_the_34(folder: Path) -> list[str]:
    """Sixteen gibibytes, which a system that promises memory freely would promise."""
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("x.npy", header(f"({1 << 32},)"))
    return _with(folder, "x.npz")


@_shelf.add("")
def npy_header_that_nests(folder: Path) -> list[str]:
    (folder / "x.npy").write_bytes(header("(" * 20_000 + ")" * 20_000))
    return _with(folder, "x.npy")


@_shelf.add("is no regular file")
def inputs_from_a_pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "x.npy")
    return _with(folder, "x.npy")


def _data_set(folder: Path, data: bytes) -> list[str]:
    (folder / "test_data_set_0").mkdir()
    (folder / "test_data_set_0" / "input_0.pb").write_bytes(data)
    return _with(folder, "test_data_set_0")


@_shelf.add("truncated")
def data_set_of_noise(folder: Path) -> list[str]:
    return _data_set(folder, b"\xff" * 100)


@_shelf.add("8 bytes, 4398046511104 needed")
def data_set_of_2_to_the_40(folder: Path) -> list[str]:
    return _data_set(folder, tensor("x", [1 << 40], bytes(8)).SerializeToString())


@_shelf.add("in another file")
def data_set_that_points_elsewhere(folder: Path) -> list[str]:
    made = TensorProto(name="x", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    made.dims.extend([2, 3])
    made.external_data.add(key="location", value="../../../../etc/passwd")
    return _data_set(folder, made.SerializeToString())
