"""What a graph computes, in hashes: of every constant, every operator with its attributes, and every value.

A *forward* hash of a node tells what it is computed from: operator, attributes and the forward hashes of what it
reads, down to the content of constants and the names of the graph's inputs. A *backward* hash tells what becomes of
its results: who reads them, in which place, with which constants beside them, up to the names of the graph's outputs.
Names inside the graph count for neither, nor does the order of its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto

from onnxeq.layers.pairing.labels import Hash, Labels, constant_hash, digest_array, domain_of, hash_of, stored_hashes
from onnxeq.referee.plan import Library, opset_map, plan_graph

__all__ = ["COMMUTATIVE", "Content", "content_of"]

COMMUTATIVE = frozenset("Add Mul Sum Max Min And Or Xor Equal BitwiseAnd BitwiseOr BitwiseXor".split())
"""Operators whose operands may change places; of these ``a + b`` and ``b + a`` are bit for bit the same."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)

_WEIGHTY = 8
"""Elements from which on a float constant tells which node it belongs to."""

_RANDOM = frozenset("Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split())


@dataclass(frozen=True)
class Content:
    """A graph in hashes; a *root* is a value that no Identity has made.

    Attributes:
        nodes: Those that contribute to the outputs, each after what it reads; Constant and Identity are left out.
        labels: For each node: operator, version and attributes.
        operands: For each node: the roots that it reads, captured ones last; an empty name where it reads nothing.
        outputs: For each node: what it makes.
        forward: For each node.
        backward: For each node: of all its results.
        sides: For each node: hashes of the operands that are constant, with their places.
        weights: For each node: hashes of those of them that are weights.
        forms: For each node: the shapes of the stored ones among its operands, with their places.
        ends: Roots that are outputs.
        makers: Root -> node and place among its results.
        readers: Root -> nodes and places among their operands.
        constant: Roots that follow from stored constants alone.
        roots: Every name -> its root.
        hashes: Every root -> its forward hash.
    """

    nodes: tuple[NodeProto, ...]
    labels: tuple[Hash, ...]
    operands: tuple[tuple[str, ...], ...]
    outputs: tuple[tuple[str, ...], ...]
    forward: tuple[Hash, ...]
    backward: tuple[Hash, ...]
    sides: tuple[tuple[tuple[int, Hash], ...], ...]
    weights: tuple[tuple[Hash, ...], ...]
    forms: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]
    ends: frozenset[str]
    makers: Mapping[str, tuple[int, int]]
    readers: Mapping[str, tuple[tuple[int, int], ...]]
    constant: frozenset[str]
    roots: Mapping[str, str]
    hashes: Mapping[str, Hash]

    def operator(self, node: int) -> tuple[str, str]:
        """Domain and operator."""
        return domain_of(self.nodes[node].domain), self.nodes[node].op_type

    def commutes(self, node: int) -> bool:
        """Whether the node's operands may change places."""
        return self.nodes[node].op_type in COMMUTATIVE

    def data(self, node: int) -> list[str]:
        """The operands of a node that are no constants."""
        return [name for name in self.operands[node] if name and name not in self.constant]

    def behind(self, node: int) -> list[tuple[str, str]]:
        """The operators that read what a node makes, in no order."""
        return sorted(self.operator(r) for n in self.outputs[node] for r, _ in self.readers.get(n, ()))


def _transparent(node: NodeProto, opset: int, read: frozenset[str], false: frozenset[str]) -> bool:
    """Whether a node only hands its first operand on: Identity, and Dropout in inference."""
    if domain_of(node.domain) or not node.input or not node.input[0]:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout" or any(name in read for name in node.output[1:]):
        return False
    if opset < 7:
        return any(a.name == "is_test" and a.i for a in node.attribute)
    return opset < 12 or len(node.input) < 3 or not node.input[2] or node.input[2] in false


def content_of(
    model: onnx.ModelProto, inputs: Mapping[str, str], outputs: Mapping[str, str], base_dir: Path | None = None
) -> Content:
    """A model's main graph in hashes.

    Args:
        model: The model.
        inputs: Names under which its inputs count; an input without one is like no other.
        outputs: Names under which its outputs count.
        base_dir: The folder of its external data.

    Raises:
        onnxeq.errors.UnusableModel: The graph has a cycle, or a name is defined twice or never.
    """
    plan = plan_graph(model.graph, opset_map(model.opset_import), Library({}, base_dir))
    ordered = [step.node for step in plan.steps]
    hashes = {v.name: hash_of("given", inputs.get(v.name, f"only {id(model)} {v.name}")) for v in model.graph.input}
    stored = stored_hashes(model.graph, base_dir)
    given = frozenset(hashes) - frozenset(name for name in stored if name not in inputs)
    hashes = {**stored, **{name: hashes[name] for name in given}}
    constants = {name for name in stored if name not in given}
    forms = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    false = frozenset(name for name in constants if hashes[name] == digest_array(np.array(False)))
    read = frozenset(name for node in ordered for name in node.input) | {o.name for o in model.graph.output}
    build = _Build(Labels(model, base_dir), hashes, constants, forms, _heavy(model.graph))
    for node in ordered:
        if node.op_type == "Constant" and not domain_of(node.domain):
            build.store(node)
        elif _transparent(node, plan.opsets.get("", 1), read, false):
            build.roots[node.output[0]] = build.roots.get(node.input[0], node.input[0])
        else:
            build.add(node)
    return build.content({build.roots.get(o.name, o.name): outputs.get(o.name, "") for o in model.graph.output})


def _is_heavy(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor tells its node: floats of some number, or many integers in several dimensions."""
    size = math.prod(tensor.dims)
    return size >= _WEIGHTY if tensor.data_type in _FLOATS else len(tensor.dims) > 1 and size >= 8 * _WEIGHTY


def _heavy(graph: GraphProto) -> set[str]:
    return {tensor.name for tensor in graph.initializer if _is_heavy(tensor)}


class _Build:
    """A content that grows node by node."""

    def __init__(
        self,
        labels: Labels,
        hashes: dict[str, Hash],
        constants: set[str],
        forms: dict[str, tuple[int, ...]],
        heavy: set[str],
    ) -> None:
        self._labels, self._hashes, self._constants, self._forms, self._heavy = labels, hashes, constants, forms, heavy
        self.roots: dict[str, str] = {}
        self._nodes: list[NodeProto] = []
        self._label: list[Hash] = []
        self._operands: list[tuple[str, ...]] = []
        self._forward: list[Hash] = []

    def store(self, node: NodeProto) -> None:
        """Takes a Constant node for what it holds."""
        name = node.output[0]
        self._hashes[name] = constant_hash(node, self._labels.base_dir)
        self._constants.add(name)
        tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        if tensor is not None:
            self._forms[name] = tuple(tensor.dims)
            if _is_heavy(tensor):
                self._heavy.add(name)

    def add(self, node: NodeProto) -> None:
        """Takes in a node whose operands are known."""
        captured: dict[str, int] = {}
        label = self._labels.label(node, captured)
        names = list(node.input)
        while names and not names[-1]:
            names.pop()
        reads = tuple(self.roots.get(name, name) for name in (*names, *captured))
        found = [self._hashes[name] if name else b"" for name in reads]
        if node.op_type in COMMUTATIVE:
            found.sort()
        made = hash_of(label, *found)
        self._nodes.append(node)
        self._label.append(label)
        self._operands.append(reads)
        self._forward.append(made)
        self._hashes.update({name: hash_of(made, i) for i, name in enumerate(node.output) if name})
        if reads and node.op_type not in _RANDOM and all(name in self._constants for name in reads if name):
            self._constants.update(name for name in node.output if name)

    def _sides(self, node: int) -> tuple[tuple[int, Hash], ...]:
        loose = self._nodes[node].op_type in COMMUTATIVE
        reads = self._operands[node]
        found = [(0 if loose else i, self._hashes[n]) for i, n in enumerate(reads) if n in self._constants]
        return tuple(sorted(found))

    def _forms_of(self, node: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
        return tuple((i, self._forms[n]) for i, n in enumerate(self._operands[node]) if n in self._forms)

    def content(self, ends: Mapping[str, str]) -> Content:
        """What was taken in; ``ends`` names the outputs."""
        readers: dict[str, list[tuple[int, int]]] = {}
        for node, reads in enumerate(self._operands):
            for place, name in enumerate(reads):
                if name:
                    readers.setdefault(name, []).append((node, place))
        sides = [self._sides(node) for node in range(len(self._nodes))]
        outputs = [tuple(node.output) for node in self._nodes]
        backward: list[Hash] = [b""] * len(self._nodes)
        for node in reversed(range(len(self._nodes))):
            backward[node] = hash_of(*(self._behind(name, ends, readers, sides, backward) for name in outputs[node]))
        weights = [tuple(self._hashes[n] for n in reads if n in self._heavy) for reads in self._operands]
        return Content(
            tuple(self._nodes), tuple(self._label), tuple(self._operands), tuple(outputs), tuple(self._forward),
            tuple(backward), tuple(sides), tuple(weights), tuple(self._forms_of(n) for n in range(len(self._nodes))),
            frozenset(ends),
            {name: (node, i) for node, names in enumerate(outputs) for i, name in enumerate(names) if name},
            {name: tuple(found) for name, found in readers.items()},
            frozenset(self._constants), self.roots, self._hashes,
        )  # fmt: skip

    def _behind(
        self,
        name: str,
        ends: Mapping[str, str],
        readers: Mapping[str, Sequence[tuple[int, int]]],
        sides: Sequence[tuple[tuple[int, Hash], ...]],
        backward: Sequence[Hash],
    ) -> Hash:
        """The hash of what becomes of one value."""
        found = []
        for node, place in readers.get(name, ()):
            at = 0 if self._nodes[node].op_type in COMMUTATIVE else place
            found.append(hash_of(self._label[node], at, repr(sides[node]), backward[node]))
        return hash_of(*sorted(found), "end" if name in ends else "", ends.get(name, ""))
