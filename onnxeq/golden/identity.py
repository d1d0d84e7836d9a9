"""What a model is, by digests that do not depend on names: its weights apart from its graph.

Float tensors, and whole numbers of 8 bits, are weights; tensors of larger whole numbers (shapes, axes, indices) say
what the graph does and belong to it. Beside the digests stand *marks*, one line for each weight and node: with them a
later check names the weight or the attribute that changed, without the old model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from onnxeq.errors import shown
from onnxeq.golden.values import Identity

if TYPE_CHECKING:
    import onnx

__all__ = ["Marks", "compare_graphs", "compare_weights", "describe"]

_LONGEST = 160


@dataclass(frozen=True)
class Marks:
    """What of a model can be told apart later.

    Attributes:
        weights: Name -> type with shape, and a digest.
        nodes: Label, operator, attributes in words and a digest of them, in the order of the graph.
    """

    weights: Mapping[str, tuple[str, str]]
    nodes: Sequence[tuple[str, str, str, str]]


def describe(path: Path, native: str = "") -> tuple[Identity, Marks]:
    """The identity and the marks of an ONNX file.

    Args:
        path: The file, examined already.
        native: The framework's own digest of its weights.
    """
    from onnxeq.graph.inspect import inspect, load

    model = load(path)
    stored = list(_weights(model, path.parent))
    tensors = hashlib.sha256(repr(sorted((kind, sha) for _, kind, sha in stored)).encode())
    opsets = sorted((o.domain or "ai.onnx", o.version) for o in model.opset_import)
    structure = hashlib.sha256(repr(opsets).encode())
    # Inputs and outputs are asked for by name.
    structure.update(repr([[v.name for v in side] for side in (model.graph.input, model.graph.output)]).encode())
    walk = _Walk(structure, path.parent)
    walk.graph(model.graph)
    for function in model.functions:
        structure.update(f"function {function.domain}::{function.name};".encode())
        walk.names(function.input)
        for node in function.node:
            walk.node(node)
        walk.names(function.output)
    identity = Identity(inspect(path).sha256, structure.hexdigest(), tensors.hexdigest(), native)
    weights = {name: (kind, sha[:16]) for name, kind, sha in stored}
    return identity, Marks(weights, [_mark(node, path.parent) for node in model.graph.node])


def _weights(model: onnx.ModelProto, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Name, type with shape, and SHA-256 of each weight."""
    from onnxeq.graph.tensors import stored_tensors

    for number, tensor in enumerate(stored_tensors(model)):
        if _is_weight(tensor):
            yield tensor.name or f"tensor {number}", *_content(tensor, folder)


def _is_weight(tensor: onnx.TensorProto) -> bool:
    from onnxeq.referee.elements import element_name

    kind = element_name(tensor.data_type)
    return kind not in ("int64", "int32", "int16", "uint64", "uint32", "uint16", "bool", "str", "string")


def _content(tensor: onnx.TensorProto, folder: Path) -> tuple[str, str]:
    import numpy as np

    from onnxeq.referee.constants import tensor_array
    from onnxeq.referee.elements import element_name

    array = np.asarray(tensor_array(tensor, folder))
    data = repr(array.tolist()).encode() if array.dtype.kind in "OUST" else array.tobytes()
    sizes = ",".join(map(str, tensor.dims))
    return f"{element_name(tensor.data_type)}[{sizes}]", hashlib.sha256(data).hexdigest()


_Digest: TypeAlias = "hashlib._Hash"


class _Walk:
    """Feeds a digest with a graph's structure: values are numbers in the order in which they are met."""

    def __init__(self, digest: _Digest, folder: Path) -> None:
        self._digest = digest
        self._folder = folder
        self._numbers: dict[str, int] = {}

    def graph(self, graph: onnx.GraphProto) -> None:
        stored = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
        self.names([i.name for i in graph.input if i.name not in stored])
        for value in graph.input:
            if value.name not in stored:
                kind = value.type.tensor_type
                # A size that may vary is called anything.
                sizes = [str(d.dim_value) if d.HasField("dim_value") else "?" for d in kind.shape.dim]
                self._digest.update(f"{kind.elem_type}[{','.join(sizes)}];".encode())
        for tensor in graph.initializer:
            if not _is_weight(tensor):
                self._constant(tensor)
        for node in graph.node:
            self.node(node)
        self.names([o.name for o in graph.output])

    def _constant(self, tensor: onnx.TensorProto) -> None:
        # Where it is read decides what it is to the graph; a name is not part of it.
        self._numbers.setdefault(tensor.name, len(self._numbers))
        kind, sha = _content(tensor, self._folder)
        self._digest.update(f"{self._numbers[tensor.name]}={kind}:{sha};".encode())

    def names(self, names: Sequence[str]) -> None:
        for name in names:
            number = self._numbers.setdefault(name, len(self._numbers)) if name else -1
            self._digest.update(f"{number},".encode())

    def node(self, node: onnx.NodeProto) -> None:
        self._digest.update(f"{node.domain if node.domain != 'ai.onnx' else ''}::{node.op_type}(".encode())
        self.names(node.input)
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            graphs = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
            if graphs:
                for inner in graphs:
                    self.graph(inner)
            else:
                self._digest.update(f"{attribute.name}={_content_of(attribute, self._folder)};".encode())
        self.names(node.output)


def _content_of(attribute: onnx.AttributeProto, folder: Path) -> str:
    """An attribute's value as text that tells two of them apart; weights are left to their own digest."""
    import onnx

    if attribute.HasField("t"):
        return "weight" if _is_weight(attribute.t) else ":".join(_content(attribute.t, folder))
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, (int, float, bytes)) or (isinstance(value, list) and not _has_messages(value)):
        return repr(value)
    return hashlib.sha256(attribute.SerializeToString(deterministic=True)).hexdigest()


def _has_messages(values: Sequence[object]) -> bool:
    return any(hasattr(v, "SerializeToString") for v in values)


def _mark(node: onnx.NodeProto, folder: Path) -> tuple[str, str, str, str]:
    from onnxeq.layers.program import label

    words = []
    digest = hashlib.sha256()
    for attribute in sorted(node.attribute, key=lambda a: a.name):
        inner = attribute.HasField("g") or bool(attribute.graphs)
        held = hashlib.sha256(attribute.SerializeToString(deterministic=True)).hexdigest()[:12] if inner else ""
        text = held or _content_of(attribute, folder)
        digest.update(f"{attribute.name}={text};".encode())
        words.append(f"{attribute.name} {text if len(text) <= _LONGEST else text[:12] + '...'}")
    return label(node), node.op_type, "; ".join(words), digest.hexdigest()[:16]


def compare_weights(before: Marks, now: Marks) -> str:
    """Which weights are other ones, in a few words; empty when every one is there as it was."""
    common = [n for n in before.weights if n in now.weights]
    changed = [n for n in common if before.weights[n] != now.weights[n]]
    gone = [n for n in before.weights if n not in now.weights]
    new = [n for n in now.weights if n not in before.weights]
    if gone and new and sorted(before.weights[n] for n in gone) == sorted(now.weights[n] for n in new):
        gone, new = [], []  # the same ones under other names
    told = []
    if changed:
        told.append(f"{len(changed)} of {len(before.weights)} weights changed: {_list(changed, before)}")
    if gone or new:
        told.append(f"{len(gone)} are gone, {len(new)} are new" + (f": {_list(new, now)}" if new else ""))
    return "; ".join(told)


def _list(names: Sequence[str], marks: Marks) -> str:
    some = ", ".join(f"'{shown(n)}' {marks.weights[n][0]}" for n in names[:3])
    return some + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def compare_graphs(before: Marks, now: Marks) -> str:
    """Which nodes are other ones, in a few words; empty when operators and attributes are as they were."""
    ours, theirs = {n[0]: n for n in before.nodes}, {n[0]: n for n in now.nodes}
    told = []
    for label, op_type, words, sha in before.nodes:
        other = theirs.get(label)
        if other is not None and other[1] != op_type:
            told.append(f"node {shown(label)} is {other[1]}, it was {op_type}")
        elif other is not None and other[3] != sha:
            told.append(f"node {shown(label)} ({op_type}): {_attributes(words, other[2])}")
    if gone := [n for n in ours if n not in theirs]:
        told.append(f"{len(gone)} of {len(ours)} nodes are gone, {shown(gone[0])} ({ours[gone[0]][1]}) first")
    if new := [n for n in theirs if n not in ours]:
        told.append(f"{len(new)} of {len(theirs)} nodes are new, {shown(new[0])} ({theirs[new[0]][1]}) first")
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")


def _attributes(before: str, now: str) -> str:
    """``pads is [0, 1], it was [1, 1]``."""
    old, new = (dict(part.partition(" ")[::2] for part in words.split("; ") if part) for words in (before, now))
    differing = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
    return ", ".join(f"attribute {k} is {new.get(k, 'gone')}, it was {old.get(k, 'not there')}" for k in differing[:3])
