"""Files that are no model at all."""

from __future__ import annotations

import os
import random
from pathlib import Path

from onnx import helper as h

from corpus.case import Shelf
from corpus.models import graph, model

__all__ = ["CASES"]

_shelf = Shelf()
CASES = _shelf.cases


def _good() -> bytes:
    return bytes(model(graph([h.make_node("Relu", ["x"], ["y"])])).SerializeToString())


def _file(folder: Path, data: bytes) -> list[str]:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return [str(path)]


@_shelf.add("is empty (0 bytes)")
def empty(folder: Path) -> list[str]:
    return _file(folder, b"")


@_shelf.add("holds no ONNX model")
def truncated(folder: Path) -> list[str]:
    return _file(folder, _good()[:40])


@_shelf.add("holds no ONNX model")
def random_bytes(folder: Path) -> list[str]:
    return _file(folder, random.Random(0).randbytes(1 << 20))  # noqa: S311 - no secret


@_shelf.add("is text")
def text(folder: Path) -> list[str]:
    return _file(folder, b"<html>404</html>\n" * 40)


@_shelf.add("is a folder")
def a_folder(folder: Path) -> list[str]:
    (folder / "model.onnx").mkdir()
    return [str(folder / "model.onnx")]


@_shelf.add("is no regular file")
def fifo(folder: Path) -> list[str]:
    os.mkfifo(folder / "model.onnx")
    return [str(folder / "model.onnx")]


@_shelf.add("is no regular file")
def endless_device(folder: Path) -> list[str]:
    (folder / "model.onnx").symlink_to("/dev/zero")
    return [str(folder / "model.onnx")]


@_shelf.add("a protobuf holds less than")
def sparse_terabyte(folder: Path) -> list[str]:
    path = folder / "model.onnx"
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)
    return [str(path)]


@_shelf.add("there is no file")
def name_with_escapes(folder: Path) -> list[str]:
    return [str(folder / "\x1b[2Jgone\nmodel.onnx")]


@_shelf.add("messages")
def millions_of_empty_nodes(folder: Path) -> list[str]:
    """Five million bytes that become 2.5 million nodes."""
    from corpus.models import record

    return _file(folder, b"\x08\x08" + record(7, record(1, b"") * 2_500_000 + record(12, record(1, b"y"))))
