"""Small ONNX models, and protobuf records written by hand where the library refuses to make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx import helper as h

__all__ = ["external", "graph", "length", "model", "record", "tensor", "value", "write"]


def value(name: str, shape: Sequence[int | str] | None = (2, 3), kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    """A float32 input or output."""
    return h.make_tensor_value_info(name, kind, shape)


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    initializers: Sequence[TensorProto] = (),
) -> GraphProto:
    """A graph; by default from ``x`` to ``y``, both ``float32[2,3]``."""
    return h.make_graph(
        list(nodes), "g", list(inputs) or [value("x")], list(outputs) or [value("y")], list(initializers)
    )


def model(body: GraphProto, functions: Sequence[FunctionProto] = ()) -> ModelProto:
    """A model of opset 17 with the functions' domain ``own``."""
    domains = [h.make_opsetid("", 17), *([h.make_opsetid("own", 1)] if functions else [])]
    return h.make_model(body, opset_imports=domains, ir_version=8, functions=list(functions))


def write(folder: Path, made: ModelProto, name: str = "model.onnx") -> list[str]:
    """Writes the model; returns its path as the command's argument."""
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return [str(path)]


def tensor(name: str, dims: Sequence[int], raw: bytes, kind: int = TensorProto.FLOAT) -> TensorProto:
    """A stored tensor whose bytes need not fit its shape."""
    made = TensorProto(name=name, data_type=kind, raw_data=raw)
    made.dims.extend(dims)
    return made


def external(folder: Path, dims: Sequence[int] = (2, 3), **entries: str) -> list[str]:
    """A model that adds an external tensor ``w`` to ``x``."""
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    made.dims.extend(dims)
    for key, text in entries.items():
        made.external_data.add(key=key, value=text)
    return write(folder, model(graph([h.make_node("Add", ["x", "w"], ["y"])], initializers=[made])))


def length(size: int) -> bytes:
    """A protobuf varint."""
    encoded = b""
    while size > 0x7F:
        encoded += bytes([size & 0x7F | 0x80])
        size >>= 7
    return encoded + bytes([size])


def record(number: int, content: bytes) -> bytes:
    """A protobuf field that holds bytes."""
    return length(number << 3 | 2) + length(len(content)) + content
