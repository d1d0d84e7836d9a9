"""The table of operator implementations: per domain, operator and opset range, with its witnesses.

An implementation is a function of a :class:`Call` and the node's inputs. It registers itself with
:func:`op`; :func:`find` picks the one that holds for an opset; :func:`table` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import onnx

__all__ = ["Call", "Implementation", "Operator", "Value", "find", "op", "table"]

Value: TypeAlias = Any
"""An ``ndarray``, a list of them (ONNX sequence), or ``None`` (absent optional)."""


@dataclass(frozen=True)
class Call:
    """What an implementation may know besides its inputs.

    Attributes:
        node: The node being run.
        opset: Version of the node's domain that the model imports.
        attributes: Decoded: numbers, strings, lists of them, tensors as arrays in their stored
            type, graphs as ``GraphProto``.
        n_outputs: How many outputs the node declares, trailing empty names included.
        run_graph: Runs a sub-graph attribute with the given inputs; outer values are visible to it.
        exact: Whether floats come, and are to be given, in their declared type, because the node computes
            with shapes and constants alone (see ``executor``, rule 2).
        input_dtypes: The declared element type of each input (``float16`` for a float16 value that is
            held in float64); empty for an absent one.
        owned: The inputs that nobody else will read, so that they may be overwritten.
        nudge: Relative displacement of the coordinates by which nearest neighbours are chosen: what else rounding
            may choose is asked so.
    """

    node: onnx.NodeProto
    opset: int
    attributes: Mapping[str, Any]
    n_outputs: int
    run_graph: Callable[[onnx.GraphProto, Mapping[str, Value]], list[Value]]
    exact: bool = False
    input_dtypes: tuple[str, ...] = ()
    owned: frozenset[int] = frozenset()
    nudge: float = 0.0

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute ``name``, or ``default`` when the node does not carry it."""
        return self.attributes.get(name, default)

    def scratch(self, index: int, value: Value) -> Value:
        """``value``, the input at ``index``, when it may be overwritten (numpy's ``out=``), else ``None``."""
        return value if index in self.owned else None


Implementation: TypeAlias = Callable[..., Value | tuple[Value, ...]]


@dataclass(frozen=True)
class Operator:
    """One row of the table: ``run`` holds for ``since <= opset <= until``."""

    domain: str
    op_type: str
    since: int
    until: int
    run: Implementation
    witnesses: tuple[str, ...]


_TABLE: dict[tuple[str, str], list[Operator]] = {}

_NEWEST = 10**6


def op(
    *op_types: str,
    since: int = 1,
    until: int = _NEWEST,
    domain: str = "",
    witnesses: Sequence[str] = (),
) -> Callable[[Implementation], Implementation]:
    """Registers an implementation for ``op_types`` over a range of opset versions (inclusive).

    Args:
        op_types: ONNX operator names that share the implementation.
        since: First opset that it holds for.
        until: Last opset that it holds for.
        domain: Operator domain; empty for the standard one.
        witnesses: What it was validated against: ``suite`` (the standard's operator tests),
            ``onnxruntime``, ``torch``, ``tensorflow``, ``spec`` (by hand from the text). The odd one
            out is written as ``not onnxruntime: reason``.
    """

    def register(run: Implementation) -> Implementation:
        for op_type in op_types:
            rows = _TABLE.setdefault((domain, op_type), [])
            for row in rows:
                if row.since <= until and since <= row.until:
                    raise ValueError(f"{op_type}: opsets {since}-{until} overlap {row.since}-{row.until}")
            rows.append(Operator(domain, op_type, since, until, run, tuple(witnesses)))
        return run

    return register


def find(domain: str, op_type: str, opset: int) -> Operator | None:
    """The implementation that holds for ``opset``, or ``None``."""
    domain = "" if domain == "ai.onnx" else domain
    for row in _TABLE.get((domain, op_type), ()):
        if row.since <= opset <= row.until:
            return row
    return None


def table() -> tuple[Operator, ...]:
    """Every row, by domain, operator and opset."""
    rows = [row for rows in _TABLE.values() for row in rows]
    return tuple(sorted(rows, key=lambda r: (r.domain, r.op_type, r.since)))
