"""What a fault is: a change of a healthy artifact, with its cause and its place.

A *kind* is a generator over the sites at which one sort of fault can be put into an artifact. It looks at a
:class:`Subject` and yields :class:`Fault` values; nothing is changed until a fault is applied to a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx

from .edit import Array, Place, constant

__all__ = ["KINDS", "Apply", "Fault", "Kind", "Subject", "Tensor", "kind", "tensors"]

Apply: TypeAlias = Callable[[onnx.ModelProto, np.random.Generator], Place]
"""Changes a model and says where."""


@dataclass(frozen=True)
class Fault:
    """One fault at one site.

    Attributes:
        site: Tells it from the others of its kind in the same artifact.
        apply: Puts it in.
        text: What was done, for the reader of a miss.
    """

    site: str
    apply: Apply
    text: str


@dataclass(frozen=True)
class Subject:
    """A healthy artifact and what it computes for one feed of two samples.

    Attributes:
        model: Not to be changed.
        values: Every value that could be observed, by name.
        state: The native parameters by name, where they are at hand (torch bases).
        positional: Whether outputs belong together by position: a framework's have no names of their own.
    """

    model: onnx.ModelProto
    values: Mapping[str, Array]
    state: Mapping[str, Array] = field(default_factory=dict)
    positional: bool = True

    def shape(self, value: str) -> tuple[int, ...] | None:
        """The shape that a value had."""
        found = self.values.get(value)
        return None if found is None else tuple(found.shape)

    def is_float(self, value: str) -> bool:
        """Whether a value is a float tensor that depends on the input."""
        found = self.values.get(value)
        return found is not None and found.dtype.kind == "f"


Kind: TypeAlias = Callable[[Subject], Iterator[Fault]]


@dataclass(frozen=True)
class KindEntry:
    """A kind as the table holds it.

    Attributes:
        name: Its name.
        cause: The class: ``weights``, ``graph``, ``runtime``.
        find: Yields its faults.
        also: Causes that are as right, by the nature of the fault.
        faint: Whether it may change outputs by less than float32 rounding, or not at all (a ledger's matter).
    """

    name: str
    cause: str
    find: Kind
    also: frozenset[str] = frozenset()
    faint: bool = False


KINDS: dict[str, KindEntry] = {}
"""Every kind by name, filled by :func:`kind`."""


def kind(name: str, cause: str, *, also: tuple[str, ...] = (), faint: bool = False) -> Callable[[Kind], Kind]:
    """Enters a generator of faults into :data:`KINDS`."""

    def enter(find: Kind) -> Kind:
        KINDS[name] = KindEntry(name, cause, find, frozenset(also), faint)
        return find

    return enter


@dataclass(frozen=True)
class Tensor:
    """An initializer that holds native weights.

    Attributes:
        name: Of the initializer.
        role: ``conv``, ``deconv``, ``gemm``, ``matmul``, ``bias``, ``norm`` (scale), ``shift``, ``mean``, ``var``,
            ``rnn-w``, ``rnn-r``, ``rnn-b``, ``table``, ``slope``.
        reader: First output of the node that reads it.
        index: Which of its inputs it is.
        axis: Of the output channels.
        value: What it holds.
    """

    name: str
    role: str
    reader: str
    index: int
    axis: int
    value: Array = field(repr=False)


_ROLES: dict[str, tuple[str, ...]] = {
    "Conv": ("", "conv", "bias"),
    "ConvTranspose": ("", "deconv", "bias"),
    "Gemm": ("", "gemm", "bias"),
    "MatMul": ("", "matmul"),
    "BatchNormalization": ("", "norm", "shift", "mean", "var"),
    "LayerNormalization": ("", "norm", "shift"),
    "LSTM": ("", "rnn-w", "rnn-r", "rnn-b"),
    "GRU": ("", "rnn-w", "rnn-r", "rnn-b"),
    "Gather": ("table",),
    "PRelu": ("", "slope"),
}


def tensors(subject: Subject, *roles: str) -> list[Tensor]:
    """The weights of an artifact that have one of the roles, at their first reader; all when none is named."""
    held = {t.name for t in subject.model.graph.initializer}
    seen: set[str] = set()
    found = []
    for node in subject.model.graph.node:
        for index, name in enumerate(node.input):
            if name not in held or name in seen:
                continue
            role = _role(subject, node, index)
            value = constant(subject.model, name)
            if role and value is not None and value.dtype.kind == "f" and value.size >= 4:
                seen.add(name)
                found.append(Tensor(name, role, node.output[0], index, _axis(node, role, value), value))
    return [t for t in found if not roles or t.role in roles]


def _role(subject: Subject, node: onnx.NodeProto, index: int) -> str:
    if node.op_type == "Add":  # a bias behind a product
        other = node.input[1 - index]
        made = next((n for n in subject.model.graph.node if other in n.output), None)
        return "bias" if made is not None and made.op_type in ("MatMul", "Conv", "Gemm") else ""
    roles = _ROLES.get(node.op_type, ())
    return roles[index] if index < len(roles) else ""


def _axis(node: onnx.NodeProto, role: str, value: Any) -> int:
    if role == "gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    if role == "deconv":
        return 1
    if role in ("conv", "table"):
        return 0
    if role.startswith("rnn"):
        return 1
    if role == "slope":
        return int(np.argmax(value.shape))
    return int(value.ndim - 1)
