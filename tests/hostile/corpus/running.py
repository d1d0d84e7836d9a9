"""Models that are sound to look at and do their harm when they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx import helper as h

from corpus.case import Shelf
from corpus.models import graph, model, value, write

__all__ = ["CASES"]

_shelf = Shelf()
CASES = _shelf.cases
_LIMIT = ["--timeout", "8"]


def _int64(name: str, *values: int, scalar: bool = False) -> TensorProto:
    array = np.array(values, np.int64)
    return numpy_helper.from_array(array.reshape(()) if scalar else array, name)


def _large(folder: Path, node: str, inputs: list[str], *stored: TensorProto) -> list[str]:
    nodes = [
        h.make_node(node, inputs, ["big"]),
        h.make_node("ReduceMax", ["big"], ["m"], keepdims=0),
        h.make_node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        h.make_node("Add", ["x", "f"], ["y"]),
    ]
    return [*write(folder, model(graph(nodes, initializers=stored))), *_LIMIT]


@_shelf.add("", 3, slow=True)
def constant_of_2_to_the_40(folder: Path) -> list[str]:
    return _large(folder, "ConstantOfShape", ["n"], _int64("n", 1 << 40))


@_shelf.add("", 3, slow=True)
def range_of_2_to_the_40(folder: Path) -> list[str]:
    ends = [_int64("a", 0, scalar=True), _int64("b", 1 << 40, scalar=True), _int64("c", 1, scalar=True)]
    return _large(folder, "Range", ["a", "b", "c"], *ends)


@_shelf.add("", 3, slow=True)
def expand_to_2_to_the_40(folder: Path) -> list[str]:
    return _large(folder, "Expand", ["x", "n"], _int64("n", 1 << 39, 2, 3))


@_shelf.add("", 3, slow=True)
def tile_to_2_to_the_40(folder: Path) -> list[str]:
    return _large(folder, "Tile", ["x", "n"], _int64("n", 1 << 20, 1 << 20))


@_shelf.add("", 3, slow=True)
def more_than_the_memory(folder: Path) -> list[str]:
    """Two gibibytes: an allocation that succeeds, and whose pages come one by one; beyond what a job may take."""
    return _large(folder, "ConstantOfShape", ["n"], _int64("n", 1 << 29))


@_shelf.add("", 3, slow=True)
def enormous_output(folder: Path) -> list[str]:
    node = h.make_node("Expand", ["x", "n"], ["y"])
    body = graph([node], [value("x", [1])], [value("y", None)], [_int64("n", 1 << 29)])
    return [*write(folder, model(body)), *_LIMIT]


@_shelf.add("", 3, slow=True)
def loops_for_ever(folder: Path) -> list[str]:
    body = h.make_graph(
        [h.make_node("Identity", ["c"], ["d"]), h.make_node("Add", ["v", "x"], ["w"])], "body",
        [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("v", None)],
        [value("d", [], TensorProto.BOOL), value("w", None)],
    )  # fmt: skip
    node = h.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    return [*write(folder, model(graph([node], initializers=[_int64("n", 1 << 62, scalar=True)]))), *_LIMIT]


@_shelf.add("", 1, 3, slow=True)
def aborts_the_runtime(folder: Path) -> list[str]:
    """A whole number divided by zero, which the processor answers with a signal."""
    zero = numpy_helper.from_array(np.zeros((2, 3), np.int32), "zero")
    nodes = [h.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32), h.make_node("Div", ["i", "zero"], ["d"]),
             h.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    return [*write(folder, model(graph(nodes, initializers=[zero]))), *_LIMIT]
