"""Stored tensors that are not what they say, and external data that leads elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from onnx import TensorProto
from onnx import helper as h

from corpus.case import Shelf
from corpus.models import external, graph, model, tensor, value, write

__all__ = ["CASES"]

_shelf = Shelf()
CASES = _shelf.cases


def _with(folder: Path, *stored: TensorProto) -> list[str]:
    nodes = [h.make_node("Add", ["x", "w"], ["y"])]
    return write(folder, model(graph(nodes, initializers=stored, outputs=[value("y", None)])))


@_shelf.add("24 bytes, 4398046511104 needed")
def tensor_of_2_to_the_40(folder: Path) -> list[str]:
    return _with(folder, tensor("w", [1 << 40], bytes(24)))


@_shelf.add("needed")
def sizes_that_overflow(folder: Path) -> list[str]:
    """2^32 x 2^32 elements are none to whoever counts in 64 bits."""
    return _with(folder, tensor("w", [1 << 32, 1 << 32], b""))


@_shelf.add("23 bytes, 24 needed")
def bytes_too_short(folder: Path) -> list[str]:
    return _with(folder, tensor("w", [2, 3], bytes(23)))


@_shelf.add("28 bytes, 24 needed")
def bytes_too_long(folder: Path) -> list[str]:
    return _with(folder, tensor("w", [2, 3], bytes(28)))


@_shelf.add("elements, 4 needed")
def packed_nibbles_too_short(folder: Path) -> list[str]:
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT, float_data=[1.0, 2.0, 3.0])
    stored.dims.extend([2, 2])
    return _with(folder, stored)


@_shelf.add("1 bytes, 1099511627776 needed")
def packed_claim(folder: Path) -> list[str]:
    return _with(folder, tensor("w", [1 << 41], b"\x11", TensorProto.INT4))


@_shelf.add("negative size")
def negative_size(folder: Path) -> list[str]:
    return _with(folder, tensor("w", [-2, -3], bytes(24)))


@_shelf.add("unknown element type")
def unknown_type(folder: Path) -> list[str]:
    return _with(folder, tensor("w", [2, 3], bytes(24), 77))


@_shelf.add("1 elements, 1099511627776 needed")
def wrong_count_of_strings(folder: Path) -> list[str]:
    stored = TensorProto(name="w", data_type=TensorProto.STRING, string_data=[b"a"])
    stored.dims.append(1 << 40)
    return _with(folder, stored)


@_shelf.add("needed")
def claim_in_a_constant(folder: Path) -> list[str]:
    node = h.make_node("Constant", [], ["w"], value=tensor("inner", [1 << 40], bytes(8)))
    return write(folder, model(graph([node, h.make_node("Add", ["x", "w"], ["y"])])))


@_shelf.add("of memory", 3)
def sparse_claim(folder: Path) -> list[str]:
    """One value in a dense shape of 2^40."""
    sparse = h.make_sparse_tensor(tensor("w", [1], bytes(4)), tensor("i", [1], bytes(8), TensorProto.INT64), [1 << 40])
    body = graph([h.make_node("Add", ["x", "w"], ["y"])])
    body.sparse_initializer.append(sparse)
    return write(folder, model(body))


@_shelf.add("points outside the model's folder")
def parent_folder(folder: Path) -> list[str]:
    (folder.parent / "secret.bin").write_bytes(bytes(24))
    return external(folder, location="../secret.bin")


@_shelf.add("points outside the model's folder")
def absolute_path(folder: Path) -> list[str]:
    return external(folder, location="/etc/passwd")


@_shelf.add("a link that leads outside")
def link_out(folder: Path) -> list[str]:
    (folder.parent / "secret.bin").write_bytes(bytes(24))
    (folder / "w.bin").symlink_to(folder.parent / "secret.bin")
    return external(folder, location="w.bin")


@_shelf.add("a link that leads outside")
def folder_link_out(folder: Path) -> list[str]:
    (folder.parent / "secret").mkdir()
    (folder.parent / "secret" / "w.bin").write_bytes(bytes(24))
    (folder / "data").symlink_to(folder.parent / "secret")
    return external(folder, location="data/w.bin")


@_shelf.add("a link that leads outside")
def link_to_a_device(folder: Path) -> list[str]:
    (folder / "w.bin").symlink_to("/dev/zero")
    return external(folder, location="w.bin", length="24")


@_shelf.add("is no regular file")
def data_is_a_fifo(folder: Path) -> list[str]:
    os.mkfifo(folder / "w.bin")
    return external(folder, location="w.bin")


@_shelf.add("is no regular file")
def data_is_a_folder(folder: Path) -> list[str]:
    (folder / "w.bin").mkdir()
    return external(folder, location="w.bin")


@_shelf.add("points outside the model's folder")
def nul_in_the_name(folder: Path) -> list[str]:
    return external(folder, location="w.bin\0../../x")


@_shelf.add("there is no file")
def endless_name(folder: Path) -> list[str]:
    return external(folder, location="w" * 100_000)


@_shelf.add("bytes -8 to")
def negative_offset(folder: Path) -> list[str]:
    (folder / "w.bin").write_bytes(bytes(64))
    return external(folder, location="w.bin", offset="-8", length="24")


@_shelf.add("which has 64")
def offset_beyond_the_end(folder: Path) -> list[str]:
    (folder / "w.bin").write_bytes(bytes(64))
    return external(folder, location="w.bin", offset=str(1 << 62), length="24")


@_shelf.add("which has 64")
def length_beyond_the_end(folder: Path) -> list[str]:
    (folder / "w.bin").write_bytes(bytes(64))
    return external(folder, [1 << 40], location="w.bin", length=str(1 << 42))


@_shelf.add("is no number")
def length_of_five_thousand_digits(folder: Path) -> list[str]:
    (folder / "w.bin").write_bytes(bytes(64))
    return external(folder, location="w.bin", length="9" * 5000)


@_shelf.add("8 bytes, 24 needed")
def external_bytes_too_short(folder: Path) -> list[str]:
    (folder / "w.bin").write_bytes(bytes(64))
    return external(folder, location="w.bin", length="8")


@_shelf.add("of memory", 3)
def sparse_data_file(folder: Path) -> list[str]:
    """A file of holes: sixteen terabytes that take no room on the disk."""
    (folder / "w.bin").write_bytes(b"")
    os.truncate(folder / "w.bin", 1 << 43)
    return external(folder, [1 << 41], location="w.bin")


@_shelf.add("of memory", 3)
def the_same_bytes_a_thousand_times(folder: Path) -> list[str]:
    """A thousand tensors that share one gigabyte of holes."""
    (folder / "w.bin").write_bytes(b"")
    os.truncate(folder / "w.bin", 1 << 30)
    stored = []
    for i in range(1000):
        made = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        made.dims.append(1 << 28)
        made.external_data.add(key="location", value="w.bin")
        stored.append(made)
    node = h.make_node("Sum", ["x", *(t.name for t in stored)], ["y"])
    return write(folder, model(graph([node], [value("x", [1])], [value("y", None)], stored)))
