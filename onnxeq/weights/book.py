"""The ledger while it is being written: what is settled so far, and what is still open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnxeq.types import Array
from onnxeq.weights.digest import ulps
from onnxeq.weights.facts import Facts, prefix
from onnxeq.weights.inventory import Inventory, Stored
from onnxeq.weights.recipes import Norm
from onnxeq.weights.types import Basis, Entry, EntryStatus, Relation
from onnxeq.weights.words import describe

__all__ = ["Book", "Folded", "is_float", "loose_name"]


@dataclass(frozen=True)
class Folded:
    """A linear operator's weight with a BatchNormalization in it: what its bias must then be.

    ``factor`` are the float32 factors, one for each channel, that its elements show; a ``damaged`` weight shows none.
    """

    weight: str
    norm: Norm
    eps: float
    factor: Array | None = None
    damaged: bool = False


@dataclass
class Book:
    """What the stages read and write.

    Attributes:
        native: The native tensors.
        artifact: The artifact's constants and nodes.
        facts: Which native tensors belong together.
        places: Constant -> the native tensor that belongs in its place, where a reference graph tells.
        entries: By constant.
        held: Native tensors that are accounted for.
        folded: By weight constant.
        norm_at: By bias constant: the BatchNormalization whose shift it is.
        choices: By constant: all native tensors whose values it holds.
        before: The entries by value alone, before places and names were looked at.
        hints: By constant: the native weight that its channels are proportional to.
        turns: By native weight: the order of its axes as the reference's operator sees them.
    """

    native: Mapping[str, Array]
    artifact: Inventory
    facts: Facts
    places: Mapping[str, str] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    folded: dict[str, Folded] = field(default_factory=dict)
    norm_at: dict[str, Folded] = field(default_factory=dict)
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    before: dict[str, Entry] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    turns: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def namesakes(self) -> Mapping[str, str]:
        """Native names without what exporters add to names."""
        return {loose_name(name): name for name in self.native}

    @cached_property
    def modules(self) -> Mapping[str, tuple[str, ...]]:
        """Module -> its native tensors."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.native:
            found[prefix(name)] = (*found.get(prefix(name), ()), name)
        return found

    def open(self) -> list[Stored]:
        """Float constants of more than one element that no stage has explained."""
        return [
            s
            for s in self.artifact.stored.values()
            if s.name not in self.entries and s.size > 1 and is_float(s.array) and not s.blocked
        ]

    def loose(self) -> list[str]:
        """Float tensors of the source that no constant holds so far."""
        return [n for n, a in self.native.items() if n not in self.held and a.size > 1 and is_float(a)]

    def settle(self, stored: Stored, natives: Sequence[str], relation: Relation, transform: str = "") -> None:
        """Notes where a constant came from."""
        self._write(stored, Entry(stored.name, tuple(natives), relation, transform))
        self.held.update(natives)

    def miss(
        self,
        stored: Stored,
        natives: Sequence[str],
        relation: Relation,
        transform: str,
        expected: Array,
        *,
        wrong: NDArray[np.bool_] | None = None,
        said: str = "",
        basis: Basis = Basis.VALUE,
        axis: int = 0,
        sure: bool = True,
    ) -> None:
        """Notes a near miss: the constant corresponds to these native tensors and differs from what they give."""
        actual = stored.array
        expected = np.ascontiguousarray(expected).astype(actual.dtype).reshape(actual.shape)
        said = said or describe(actual, expected, axis, wrong)
        how = f" ({transform})" if transform else ""
        owner = f"{natives[0]}{how}" if natives else "what belongs there"
        user = f", read by {stored.user.op_type} {stored.user.node}" if stored.user else ""
        entry = Entry(
            stored.name, tuple(natives), relation, transform, EntryStatus.NEAR_MISS,
            ulp=float(ulps(actual, expected).max(initial=0.0)),
            evidence=f"initializer '{stored.name}' of {owner}{user}, {said}",
            basis=basis, sure=bool(sure), expected=expected, native=natives[0] if natives else "",
        )  # fmt: skip
        self._write(stored, entry)
        self.held.update(natives)

    def note(self, stored: Stored, natives: Sequence[str], relation: Relation, status: EntryStatus, said: str) -> None:
        """Notes what is neither right nor a near miss."""
        self._write(stored, Entry(stored.name, tuple(natives), relation, "", status, evidence=said, basis=Basis.NONE))
        self.held.update(natives)

    def _write(self, stored: Stored, entry: Entry) -> None:
        user = stored.user
        placed = {"node": user.node, "op_type": user.op_type} if user is not None else {}
        self.entries[stored.name] = Entry(**{**vars(entry), **placed})


def is_float(array: Array) -> bool:
    """Whether the elements are floats, those that numpy has no name for included."""
    return array.dtype.kind == "f" or (array.dtype.kind == "V" and "float" in array.dtype.name)


def loose_name(name: str) -> str:
    """A name without what exporters add to it."""
    for tail in (":0", "/resource", "/ReadVariableOp", "_quantized"):
        name = name.removesuffix(tail)
    return name.replace("/", ".")
