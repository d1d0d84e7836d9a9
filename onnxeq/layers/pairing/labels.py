"""Operators, attributes, sub-graphs and constants in hashes, without the names inside a graph.

Attributes count with their defaults, in any order; a sub-graph counts by what it computes; a constant by element type,
shape and bytes, which are read one constant at a time and neither kept nor widened.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto

from onnxeq.referee.constants import sparse_array, tensor_array
from onnxeq.referee.plan import function_key, opset_map
from onnxeq.referee.schemas import default_attributes, schema_of

__all__ = ["Hash", "Labels", "constant_array", "constant_hash", "digest_array", "domain_of", "hash_of", "stored_hashes"]

Hash: TypeAlias = bytes

_WINDOWED = frozenset("Conv ConvTranspose ConvInteger QLinearConv MaxPool AveragePool LpPool FusedConv".split())


def domain_of(name: str) -> str:
    """The operator domain, the standard one under its empty name."""
    return "" if name == "ai.onnx" else name


def hash_of(*parts: bytes | str | int) -> Hash:
    """The hash of a list."""
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(data).to_bytes(4, "little"))
        whole.update(data)
    return whole.digest()


def digest_array(array: np.ndarray[Any, Any]) -> Hash:
    """The hash of element type, shape and bytes."""
    # Not BLAKE2 as above: processors have SHA-256 built in, and a model has a hundred megabytes.
    whole = hashlib.sha256(f"{array.dtype.name}{array.shape}".encode())
    if array.dtype == object:
        for item in array.ravel():
            whole.update(repr(item).encode())
    else:
        whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return whole.digest()[:16]


@functools.cache
def _version(domain: str, op_type: str, opset: int) -> int:
    """The version in which the operator was last changed."""
    schema = schema_of(domain, op_type, opset)
    return int(schema.since_version) if schema is not None else 0


@functools.cache
def _defaults(domain: str, op_type: str, opset: int) -> Mapping[str, Any]:
    return default_attributes(domain, op_type, opset)


class Labels:
    """Hashes of operators with their attributes.

    Args:
        model: The model that the nodes belong to.
        base_dir: The folder of its external data.
    """

    def __init__(self, model: onnx.ModelProto, base_dir: Path | None) -> None:
        self._opsets = opset_map(model.opset_import)
        self._functions = {function_key(f): f for f in model.functions}
        self._bodies: dict[object, Hash] = {}
        self.base_dir = base_dir

    def label(self, node: NodeProto, captured: dict[str, int]) -> Hash:
        """The hash of a node without its operands; names that its sub-graphs capture are numbered in ``captured``."""
        domain = domain_of(node.domain)
        opset = self._opsets.get(domain, 1)
        kept: dict[str, Any] = {**_defaults(domain, node.op_type, opset), **{a.name: a for a in node.attribute}}
        _drop_what_says_nothing(node.op_type, kept)
        parts: list[bytes | str | int] = [domain, node.op_type, _version(domain, node.op_type, opset)]
        for name in sorted(kept):
            parts += [name, self._attribute(kept[name], captured)]
        if (function := self._functions.get(function_key(node))) is not None:
            parts.append(self._function(function))
        return hash_of(*parts)

    def _function(self, function: onnx.FunctionProto) -> Hash:
        key = function_key(function)
        if key not in self._bodies:
            self._bodies[key] = b"itself"
            scope = {name: hash_of("input", i) for i, name in enumerate(function.input)}
            self._run(function.node, scope, {})
            self._bodies[key] = hash_of("function", *(scope.get(name, b"") for name in function.output))
        return self._bodies[key]

    def _attribute(self, attribute: AttributeProto, captured: dict[str, int]) -> bytes:
        kind = attribute.type
        if attribute.ref_attr_name:
            return b"ref:" + attribute.ref_attr_name.encode()
        if kind == AttributeProto.FLOAT:
            return struct.pack("<f", attribute.f)
        if kind == AttributeProto.INT:
            return b"i%d" % attribute.i
        if kind == AttributeProto.STRING:
            return b"s" + bytes(attribute.s)
        if kind == AttributeProto.INTS:
            return repr(list(attribute.ints)).encode()
        if kind == AttributeProto.FLOATS:
            return struct.pack(f"<{len(attribute.floats)}f", *attribute.floats)
        if kind == AttributeProto.STRINGS:
            return repr(list(attribute.strings)).encode()
        if kind == AttributeProto.TENSOR:
            return digest_array(tensor_array(attribute.t, self.base_dir))
        if kind == AttributeProto.GRAPH:
            return self._body(attribute.g, captured)
        if kind == AttributeProto.GRAPHS:
            return hash_of(*(self._body(g, captured) for g in attribute.graphs))
        return bytes(attribute.SerializeToString(deterministic=True))

    def _body(self, graph: GraphProto, captured: dict[str, int]) -> Hash:
        """The hash of a sub-graph; what it captures counts by the order in which it is met."""
        scope = {value.name: hash_of("input", i) for i, value in enumerate(graph.input)}
        scope |= stored_hashes(graph, self.base_dir)
        self._run(graph.node, scope, captured)
        return hash_of("body", *(self._met(value.name, scope, captured) for value in graph.output))

    def _met(self, name: str, scope: dict[str, Hash], captured: dict[str, int]) -> Hash:
        if not name:
            return b""
        if name in scope:
            return scope[name]
        return hash_of("captured", captured.setdefault(name, len(captured)))

    def _run(self, nodes: Iterable[NodeProto], scope: dict[str, Hash], captured: dict[str, int]) -> None:
        for node in nodes:
            if node.op_type == "Constant" and not domain_of(node.domain):
                scope[node.output[0]] = constant_hash(node, self.base_dir)
                continue
            inner: dict[str, int] = {}
            label = self.label(node, inner)
            reads = [self._met(name, scope, captured) for name in (*node.input, *inner)]
            made = hash_of(label, *reads)
            scope.update({name: hash_of(made, i) for i, name in enumerate(node.output) if name})


def _drop_what_says_nothing(op_type: str, kept: dict[str, Any]) -> None:
    """Takes out attributes that say what holds without them."""
    if op_type in _WINDOWED:
        padding = kept["auto_pad"].s if "auto_pad" in kept else b""
        if padding in (b"VALID", b"NOTSET"):
            del kept["auto_pad"]
        if padding == b"VALID":
            kept.pop("pads", None)
        if op_type.endswith("Conv"):
            kept.pop("kernel_shape", None)
        for name, value in (("pads", 0), ("strides", 1), ("dilations", 1)):
            if name in kept and all(n == value for n in kept[name].ints):
                del kept[name]
    elif op_type == "BatchNormalization" and not ("training_mode" in kept and kept["training_mode"].i):
        kept.pop("momentum", None)


def constant_hash(node: NodeProto, base_dir: Path | None) -> Hash:
    """The content of a Constant node; the same as of an initializer that holds it."""
    array = constant_array(node, base_dir)
    return digest_array(array) if array is not None else hash_of(node.SerializeToString(deterministic=True))


def constant_array(node: NodeProto, base_dir: Path | None) -> np.ndarray[Any, Any] | None:
    """What a Constant node holds; ``None`` when its attribute is a reference to another."""
    for a in node.attribute:
        if a.ref_attr_name:
            return None
        plain: dict[str, tuple[Any, Any]] = {
            "value_float": (a.f, np.float32), "value_floats": (list(a.floats), np.float32),
            "value_int": (a.i, np.int64), "value_ints": (list(a.ints), np.int64),
        }  # fmt: skip
        if a.name == "value":
            return tensor_array(a.t, base_dir)
        if a.name == "sparse_value":
            return sparse_array(a.sparse_tensor, base_dir)
        if a.name in plain:
            return np.array(plain[a.name][0], dtype=plain[a.name][1])
        if a.name == "value_string":
            return np.array(a.s.decode("utf-8", "replace"), dtype=object)
        if a.name == "value_strings":
            return np.array([s.decode("utf-8", "replace") for s in a.strings], dtype=object)
    return None


def stored_hashes(graph: GraphProto, base_dir: Path | None) -> dict[str, Hash]:
    """The content of the initializers."""
    found = {tensor.name: digest_array(tensor_array(tensor, base_dir)) for tensor in graph.initializer}
    return found | {s.values.name: digest_array(sparse_array(s, base_dir)) for s in graph.sparse_initializer}
