"""A runtime's own values of inner tensors: copies of the model with further outputs, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from onnxeq.errors import CannotRun
from onnxeq.referee.elements import numpy_dtype
from onnxeq.referee.plan import captured_by, node_label

if TYPE_CHECKING:
    from onnxeq.referee import Executor, NodeInfo, Value
    from onnxeq.types import Feed

__all__ = ["MOST_BYTES", "Extent", "GraphIndex", "Part", "Prober", "parts", "survey"]

MOST_BYTES = 64 << 20
"""Bytes of probed values per run, so that a large model is looked at in several."""

_EXTERNAL_FROM = 1 << 10


@dataclass(frozen=True)
class Extent:
    """What is known of a value before a runtime is asked for it: declared type, size in it, and perhaps its shape."""

    dtype: str
    nbytes: int
    shape: tuple[int, ...] | None = None


class _Survey:
    """A hook that notes the type and size of every value of the main graph."""

    def __init__(self) -> None:
        self.found: dict[str, Extent] = {}

    def constant(self, _name: str, value: Any, _dtype: str) -> Any:
        return value

    def node(self, info: NodeInfo, _inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        if not info.path:
            for name, value, dtype in zip(info.node.output, outputs, info.dtypes, strict=False):
                if name:
                    self.found[name] = Extent("" if isinstance(value, list) else dtype, _nbytes(value, dtype))
        return outputs


def _nbytes(value: Value, dtype: str) -> int:
    if isinstance(value, list):
        return sum(_nbytes(item, dtype) for item in value)
    if value is None:
        return 0
    size = numpy_dtype(dtype).itemsize if dtype else value.itemsize
    return int(value.size) * size


def survey(executor: Executor, feed: Feed) -> dict[str, Extent]:
    """Every value of the main graph that is computed for ``feed``, with its type and size."""
    hook = _Survey()
    executor.run(feed, hook=hook)
    return hook.found


class GraphIndex:
    """Who makes which value of a main graph, and who reads it."""

    def __init__(self, model: onnx.ModelProto | onnx.GraphProto) -> None:
        graph = model if isinstance(model, onnx.GraphProto) else model.graph
        self.nodes: tuple[onnx.NodeProto, ...] = tuple(graph.node)
        self.makers: dict[str, onnx.NodeProto] = {n: node for node in self.nodes for n in node.output if n}
        self.outputs = tuple(o.name for o in graph.output)

    def reads(self, node: onnx.NodeProto) -> list[str]:
        """What a node reads, its sub-graphs included."""
        return [name for name in (*node.input, *sorted(captured_by(node))) if name]

    def frontier(self, node: onnx.NodeProto, shared: Mapping[str, Any]) -> set[str]:
        """The nearest shared values behind a node, from which it can be computed."""
        found: set[str] = set()
        seen: set[str] = set()
        pending = self.reads(node)
        while pending:
            name = pending.pop()
            if name in seen or name not in self.makers:
                continue
            seen.add(name)
            if name in shared:
                found.add(name)
            else:
                pending += self.reads(self.makers[name])
        return found

    def label_of(self, value: str) -> str:
        """The node that makes a value."""
        return node_label(self.makers[value])


@dataclass(frozen=True)
class Part:
    """What is looked at in one run: the values that are judged, and those from which they are computed."""

    judged: frozenset[str]
    probed: frozenset[str]


def parts(index: GraphIndex, shared: Mapping[str, Extent], most_bytes: int = MOST_BYTES) -> Iterator[Part]:
    """The shared values, in the order of the graph, in parts of at most ``most_bytes`` where that is possible."""
    judged: set[str] = set()
    probed: set[str] = set()
    for node in index.nodes:
        own = {name for name in node.output if name in shared}
        if not own:
            continue
        wanted = own | index.frontier(node, shared)
        if judged and sum(shared[n].nbytes for n in probed | wanted) > most_bytes:
            yield Part(frozenset(judged), frozenset(probed))
            judged, probed = set(), set()
        judged |= own
        probed |= wanted
    if judged:
        yield Part(frozenset(judged), frozenset(probed))


class Prober:
    """Writes copies of a model that differ in their outputs only; the weights are stored once.

    Args:
        model: The model with its data in memory; it is not changed.
        folder: Where the copies and the weights lie.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._copy = onnx.ModelProto()
        self._copy.CopyFrom(model)
        _move_data(self._copy, folder / "weights.bin")
        self._own = len(self._copy.graph.output)
        self.outputs = tuple(o.name for o in self._copy.graph.output)
        self._count = 0

    def write(self, wanted: Sequence[str], extents: Mapping[str, Extent], *, typed: bool = True) -> Path:
        """A copy whose outputs are the model's own, then ``wanted``.

        Args:
            wanted: Values of the main graph.
            extents: Their types, where they are known.
            typed: Whether the new outputs declare their element type.
        """
        del self._copy.graph.output[self._own :]
        for name in wanted:
            if name in self.outputs:
                continue
            dtype = extents[name].dtype if typed and name in extents else ""
            self._copy.graph.output.append(_declared(name, dtype))
        self._count += 1
        path = self._folder / f"probed-{self._count}.onnx"
        path.write_bytes(self._copy.SerializeToString())
        return path

    def cut(self, values: Sequence[str], index: GraphIndex) -> Path:
        """A copy that ends with those of ``values`` that none of the others needs."""
        read = {name for value in values for name in index.reads(index.makers[value])}
        ends = [value for value in values if value not in read]
        kept = onnx.ModelProto()
        kept.CopyFrom(self._copy)
        del kept.graph.output[:]
        kept.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ends)
        del kept.graph.node[:]
        wanted = {id(index.makers[value]) for value in values}
        kept.graph.node.extend(n for n in index.nodes if id(n) in wanted or n.op_type == "Constant")
        self._count += 1
        path = self._folder / f"cut-{self._count}.onnx"
        path.write_bytes(kept.SerializeToString())
        return path


def _declared(name: str, dtype: str) -> onnx.ValueInfoProto:
    if not dtype:
        return onnx.ValueInfoProto(name=name)
    kind = onnx.TensorProto.STRING if dtype == "str" else onnx.helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, None)


def _move_data(model: onnx.ModelProto, path: Path) -> None:
    """Moves large tensors of the main graph into a file beside the model."""
    offset = 0
    with path.open("wb") as file:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < _EXTERNAL_FROM:
                continue
            length = len(tensor.raw_data)
            file.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            del tensor.external_data[:]
            for key, value in (("location", path.name), ("offset", str(offset)), ("length", str(length))):
                tensor.external_data.add(key=key, value=value)
            offset += length
    if model.ByteSize() >= 2**31:
        raise CannotRun("the model's graph alone is larger than a protobuf may be")
