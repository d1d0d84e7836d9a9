"""The door through which an ONNX file enters the host: after it, what a model says of itself may be relied on.

1. No name is defined twice within a scope, and none is read that nothing defines.
2. Nodes form no cycle, functions do not call themselves, and written out they are no more than :data:`MOST_NODES`
   nodes, nested no deeper than :data:`MOST_CALLS`.
3. A tensor has as many bytes or elements as its shape and type need: a shape that was made up claims no memory.
4. What external and sparse tensors need together fits into this machine, and so do the files of external data.

What :mod:`onnxeq.graph.files` holds to beside it: external data lies in the model's folder, and the encoding is neither
deeper nor made of more messages than can be parsed (:mod:`onnxeq.graph.wire`); names are
text (:mod:`onnxeq.graph.texts`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from onnxeq import memory
from onnxeq.errors import CannotRun, UnusableModel
from onnxeq.graph.calls import check_calls
from onnxeq.graph.skim import Skimmed
from onnxeq.graph.tensors import all_graphs, is_external, stored_tensors
from onnxeq.referee.constants import BITS
from onnxeq.referee.elements import element_name, numpy_dtype
from onnxeq.referee.plan import captured_by, graphs_of

__all__ = ["MOST_AXES", "check_tensor", "examine"]

MOST_AXES = 64
"""Axes that an array of numpy can have."""

_AGAIN = "Fetch or export it again."
_MEND = "The exporter that wrote it is at fault."


def examine(skimmed: Skimmed, external: Sequence[Path]) -> None:
    """Holds a model to the rules above; reads no byte of its weights.

    Args:
        skimmed: The model.
        external: The files of its external data.

    Raises:
        onnxeq.errors.UnusableModel: It breaks one of them; says which, and where.
        onnxeq.errors.CannotRun: It needs more memory than this machine has.
    """
    model = skimmed.model
    _check_interface(model.graph)
    _check_scopes(model)
    check_calls(model)
    own, needed = len(model.graph.initializer), 0
    for i, tensor in enumerate(stored_tensors(model)):  # the graph's own initializers come first
        left_out = skimmed.left_out.get(tensor.name) if i < own else None
        size = check_tensor(tensor, left_out)
        needed += size if is_external(tensor) else 0
    needed += sum(_dense_bytes(sparse) for sparse in _sparse_tensors(model))
    _check_memory("the tensors need", needed)
    _check_memory("the files of external data take", sum(path.stat().st_size for path in external))


def _check_memory(what: str, count: int) -> None:
    if count > memory.total():
        text = f"{what} {memory.readable(count)}, this machine has {memory.readable(memory.total())} of memory"
        raise CannotRun(text, hint="run it on a larger machine")


def _check_interface(graph: GraphProto) -> None:
    for what, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            if not value.name:
                raise UnusableModel(f"the name of an {what} is empty", hint=_MEND)
            tensor = value.type.tensor_type
            if len(tensor.shape.dim) > MOST_AXES:
                raise UnusableModel(
                    f"{what} {value.name!r} has {len(tensor.shape.dim)} axes, {MOST_AXES} are allowed", hint=_MEND
                )
            if tensor.elem_type:
                _element(f"{what} {value.name!r}", tensor.elem_type)


def _element(owner: str, kind: int) -> str:
    try:
        return element_name(kind)
    except UnusableModel:
        raise UnusableModel(f"{owner} has the unknown element type {kind}", hint=_AGAIN) from None


def _check_scopes(model: onnx.ModelProto) -> None:
    """Rules 1 and 2 for the graph, its sub-graphs and the functions' bodies."""
    _check_graphs([(model.graph, frozenset[str]())])
    for function in model.functions:
        _once(function.input, f"input of function {function.name!r}")
        own = _check_nodes(function.node, set(function.input), frozenset())
        for name in function.output:
            if name not in own:
                raise UnusableModel(f"output {name!r} of function {function.name!r} is never defined", hint=_MEND)
        _check_graphs([(inner, frozenset(own)) for node in function.node for inner in graphs_of(node)])


def _check_graphs(pending: list[tuple[GraphProto, frozenset[str]]]) -> None:
    """The scopes of graphs and of those inside them, each with the names that it may read from outside."""
    while pending:
        graph, outer = pending.pop()
        stored = [tensor.name for tensor in graph.initializer]
        stored += [sparse.values.name for sparse in graph.sparse_initializer]
        inputs = [value.name for value in graph.input]
        _once(stored, "initializer")
        _once(inputs, "input")
        own = _check_nodes(graph.node, {*stored, *inputs}, outer)
        for value in graph.output:
            if value.name not in own and value.name not in outer:
                raise UnusableModel(f"output {value.name!r} is never defined", hint=_MEND)
        pending += [(inner, outer | own) for node in graph.node for inner in graphs_of(node)]


def _once(names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UnusableModel(f"{what} {name!r} is defined twice", hint=_MEND)
        seen.add(name)


def _check_nodes(nodes: Sequence[NodeProto], given: set[str], outer: frozenset[str]) -> set[str]:
    """The names of a scope, each defined once, none read undefined, and nodes that can be put into an order."""
    makers: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in makers or name in given:
                where = f"node {node.name or i!r} ({node.op_type}) makes it again"
                raise UnusableModel(f"value {name!r} is defined twice: {where}", hint=_MEND)
            makers[name] = i
    waits: list[set[int]] = []
    for i, node in enumerate(nodes):
        reads = {name for name in node.input if name} | (captured_by(node) if node.attribute else set())
        for name in reads:
            if name not in makers and name not in given and name not in outer:
                where = f"node {node.name or i!r} ({node.op_type}) reads it"
                raise UnusableModel(f"value {name!r} is never defined: {where}", hint=_MEND)
        waits.append({makers[name] for name in reads if name in makers})
    if any(source >= i for i, sources in enumerate(waits) for source in sources):
        _check_order(nodes, waits)
    return given | set(makers)


def _check_order(nodes: Sequence[NodeProto], waits: Sequence[set[int]]) -> None:
    readers: dict[int, list[int]] = {}
    for i, sources in enumerate(waits):
        for source in sources:
            readers.setdefault(source, []).append(i)
    left = [len(sources) for sources in waits]
    ready = [i for i, count in enumerate(left) if not count]
    done = 0
    while ready:
        done += 1
        for reader in readers.get(ready.pop(), ()):
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    if done < len(nodes):
        stuck = [f"{nodes[i].name or i!r} ({nodes[i].op_type})" for i, count in enumerate(left) if count]
        raise UnusableModel(f"the graph has a cycle through nodes {', '.join(stuck[:3])}", hint=_MEND)


def check_tensor(tensor: TensorProto, left_out: int | None = None) -> int:
    """The bytes that a tensor needs in memory, made sure that it has them.

    Args:
        tensor: A stored tensor.
        left_out: The bytes of its data, when it was skimmed without.

    Raises:
        onnxeq.errors.UnusableModel: It has not; with what it has, and what it needs.
    """
    owner = f"tensor {tensor.name!r}"
    kind = _element(owner, tensor.data_type)
    if len(tensor.dims) > MOST_AXES:
        raise UnusableModel(f"{owner} has {len(tensor.dims)} axes, {MOST_AXES} are allowed", hint=_MEND)
    if any(size < 0 for size in tensor.dims):
        raise UnusableModel(f"{owner} has a negative size: {list(tensor.dims)}", hint=_MEND)
    count = math.prod(tensor.dims)
    bits = BITS.get(kind)
    size = -(-count * bits // 8) if bits else count * (1 if kind == "str" else numpy_dtype(kind).itemsize)
    if is_external(tensor):
        given = next((entry.value for entry in tensor.external_data if entry.key == "length"), "")
        held, needed, unit = int(given) if given else size, size, "bytes"
    elif left_out is not None or tensor.HasField("raw_data"):
        held, needed, unit = len(tensor.raw_data) if left_out is None else left_out, size, "bytes"
    else:
        held, needed, unit = _typed(tensor), _typed_needed(kind, count), "elements"
    if held != needed or (kind == "str" and unit == "bytes"):
        raise UnusableModel(
            f"{owner}, {kind}{list(tensor.dims)}, has {held} {unit}, {needed} needed",
            hint=_AGAIN if held < needed else _MEND,
        )
    return int(size)


def _typed(tensor: TensorProto) -> int:
    return max(
        len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data), len(tensor.string_data),
        len(tensor.double_data), len(tensor.uint64_data),
    )  # fmt: skip


def _typed_needed(kind: str, count: int) -> int:
    if kind in BITS:  # as many to an element as to a byte
        return int(-(-count * BITS[kind] // 8))
    return 2 * count if kind.startswith("complex") else count


def _dense_bytes(sparse: onnx.SparseTensorProto) -> int:
    kind = _element(f"sparse tensor {sparse.values.name!r}", sparse.values.data_type)
    if any(size < 0 for size in sparse.dims):
        raise UnusableModel(f"sparse tensor {sparse.values.name!r} has a negative size", hint=_MEND)
    return int(math.prod(sparse.dims) * numpy_dtype(kind).itemsize)


def _sparse_tensors(model: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    nodes: list[NodeProto] = [node for function in model.functions for node in function.node]
    for graph in all_graphs(model.graph):
        yield from graph.sparse_initializer
        nodes += graph.node
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor
            yield from attribute.sparse_tensors
