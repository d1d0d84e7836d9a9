"""A runner with a fault that is asked for: onnxruntime on a model into which the fault is written.

    onnxeq check model.onnx --runner 'tests/faulty_runner.py:Faulty?kind=scale&node=conv3&size=1e-3'

The node's result is computed into another value and reaches its old name through further nodes that damage it, so
that whoever asks for the value gets the damaged one. Settings: ``kind`` (see :data:`KINDS`), ``node`` and ``op`` (which
nodes: names separated by commas; every node of an operator), ``size``, ``when`` (``always``, ``optimized``, ``plain``;
``unseen``: as long as nobody asks for the node's result), and for ``attribute`` its ``name``. ``besides`` names another
node that is a thousandth off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxeq.protocols import Session, SessionOptions
from onnxeq.runners import ort

__all__ = ["KINDS", "Faulty", "damage"]


class _Writer:
    """Adds nodes and constants under names that are not taken."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self._count = 1000 * len(model.graph.node)  # a second fault has more nodes, and so other names

    def constant(self, value: Any) -> str:
        self._count += 1
        name = f"faulty_constant_{self._count}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op_type: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        self._count += 1
        output = output or f"faulty_value_{self._count}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=f"faulty_{self._count}", **attributes))
        return output

    def batch_of(self, value: str) -> str:
        """``1.0`` where the first axis is longer than one, else ``0.0``."""
        sizes = self.node("Shape", [value])
        first = self.node("Gather", [sizes, self.constant(np.int64(0))])
        return self.node("Cast", [self.node("Greater", [first, self.constant(np.int64(1))])], to=TensorProto.FLOAT)


def _scale(w: _Writer, clean: str, out: str, size: float) -> None:
    w.node("Mul", [clean, w.constant(np.float32(1 + size))], out)


def _shift(w: _Writer, clean: str, out: str, size: float) -> None:
    w.node("Add", [clean, w.constant(np.float32(size))], out)


def _batch(w: _Writer, clean: str, out: str, size: float) -> None:
    by = w.node("Mul", [w.batch_of(clean), w.constant(np.float32(size))])
    w.node("Mul", [clean, w.node("Add", [by, w.constant(np.float32(1))])], out)


def _pairs(w: _Writer, clean: str, out: str, size: float) -> None:
    """Wrong in batches of exactly two."""
    first = w.node("Gather", [w.node("Shape", [clean]), w.constant(np.int64(0))])
    two = w.node("Cast", [w.node("Equal", [first, w.constant(np.int64(2))])], to=TensorProto.FLOAT)
    by = w.node("Mul", [two, w.constant(np.float32(size))])
    w.node("Mul", [clean, w.node("Add", [by, w.constant(np.float32(1))])], out)


def _first(w: _Writer, clean: str, out: str, size: float) -> None:
    """Every item gets what the first one should get."""
    first = w.node("Gather", [clean, w.constant(np.array([0]))], axis=0)
    w.node("Add", [w.node("Mul", [clean, w.constant(np.float32(0))]), first], out)


def _infinite(w: _Writer, clean: str, out: str, size: float) -> None:
    """The largest element overflows."""
    largest = w.node("Equal", [clean, w.node("ReduceMax", [clean], keepdims=0)])
    w.node("Where", [largest, w.constant(np.float32(np.inf)), clean], out)


def _random(w: _Writer, clean: str, out: str, size: float) -> None:
    noise = w.node("RandomNormalLike", [clean], mean=1.0, scale=size)
    w.node("Mul", [clean, noise], out)


def _float16(w: _Writer, clean: str, out: str, size: float) -> None:
    w.node("Cast", [w.node("Cast", [clean], to=TensorProto.FLOAT16)], out, to=TensorProto.FLOAT)


def _large(w: _Writer, clean: str, out: str, size: float) -> None:
    """Only what is larger than one is wrong: a few elements."""
    above = w.node("Greater", [clean, w.constant(np.float32(1))])
    w.node("Where", [above, w.node("Mul", [clean, w.constant(np.float32(1 + size))]), clean], out)


RESULTS: Mapping[str, Callable[[_Writer, str, str, float], None]] = {
    "scale": _scale, "shift": _shift, "batch": _batch, "random": _random, "float16": _float16, "large": _large,
    "pairs": _pairs, "first": _first, "infinite": _infinite,
}  # fmt: skip
KINDS = (*RESULTS, "tf32", "attribute", "float16-operands")


def _round_to_tf32(w: _Writer, value: str) -> str:
    """The 11 leading bits: ``c - (c - x)`` with ``c = x * (2^13 + 1)`` (Veltkamp)."""
    c = w.node("Mul", [value, w.constant(np.float32(2**13 + 1))])
    return w.node("Sub", [c, w.node("Sub", [c, value])])


def _to_float16(w: _Writer, value: str) -> str:
    return w.node("Cast", [w.node("Cast", [value], to=TensorProto.FLOAT16)], to=TensorProto.FLOAT)


def damage(model: onnx.ModelProto, settings: Mapping[str, Any]) -> onnx.ModelProto:
    """The model with the fault in it; names of values stay, so that inner ones can be asked for."""
    kind, size = str(settings["kind"]), float(settings.get("size", 1e-3))
    writer = _Writer(model)
    for node in list(model.graph.node):
        if not _chosen(node, settings):
            writer.nodes.append(node)
            continue
        if kind == "attribute":
            kept = [a for a in node.attribute if a.name != settings["name"]]
            del node.attribute[:]
            node.attribute.extend(kept)
            writer.nodes.append(node)
        elif kind in ("tf32", "float16-operands"):
            shorten = _round_to_tf32 if kind == "tf32" else _to_float16
            node.input[:2] = [shorten(writer, name) for name in node.input[:2]]
            writer.nodes.append(node)
        else:
            out = node.output[0]
            node.output[0] = f"{out}_clean"
            writer.nodes.append(node)
            RESULTS[kind](writer, node.output[0], out, size)
    del model.graph.node[:]
    model.graph.node.extend(writer.nodes)
    return model


def _chosen(node: onnx.NodeProto, settings: Mapping[str, Any]) -> bool:
    names = str(settings.get("node", "")).split(",")
    return node.op_type == settings.get("op") or (node.name or node.output[0]) in names


class Faulty:
    """onnxruntime with a fault."""

    def open(self, model: Path, options: SessionOptions) -> Session:
        """The damaged model in onnxruntime."""
        settings = dict(options.settings)
        when = settings.get("when", "always")
        if when == ("plain" if options.optimize else "optimized"):
            return ort.open(model, options)
        if when == "unseen" and _seen(model, settings):
            return ort.open(model, options)
        with tempfile.TemporaryDirectory(dir=model.parent) as folder:
            damaged = damage(onnx.load(model), settings)
            if "besides" in settings:
                damaged = damage(damaged, {"kind": "scale", "node": settings["besides"]})
            path = Path(folder) / "damaged.onnx"
            onnx.save(damaged, path)
            return ort.open(path, options)

    def versions(self) -> Mapping[str, str]:
        """Its own and onnxruntime's."""
        return {"faulty": "1", **ort.versions()}


def _seen(model: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the result of a damaged node is asked for: a fault of a fused kernel goes away then."""
    graph = onnx.load(model, load_external_data=False).graph
    asked = {o.name for o in graph.output}
    return any(asked & set(node.output) for node in graph.node if _chosen(node, settings))
