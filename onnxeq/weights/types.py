"""The ledger's values: what became of every native tensor, and where every stored constant came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnxeq.compat import StrEnum

if TYPE_CHECKING:
    from onnxeq.types import Array

__all__ = ["Basis", "Entry", "EntryStatus", "Ledger", "Relation"]


class Relation(StrEnum):
    """How a stored constant came from native tensors."""

    IDENTICAL = "identical"
    TRANSPOSED = "transposed"
    RESHAPED = "reshaped"
    SPLIT = "split"
    CONCATENATED = "concatenated"
    SUMMED = "summed"
    CAST = "cast"
    QUANTIZED = "quantized"
    SCALED = "scaled"
    FOLDED = "folded"
    UNUSED = "unused"
    GENERATED = "generated"
    UNKNOWN = "unknown"


class EntryStatus(StrEnum):
    """What the ledger says about a tensor.

    ``OK``: accounted for. ``NEAR_MISS``: it clearly corresponds to native tensors and differs from them, a fault.
    ``UNREAD``: nodes read it, and none of them reaches an output. ``ORPHAN``: a native tensor that no constant holds.
    ``UNEXPLAINED``: a constant of a weight's size that could not be derived; not a fault by itself.
    """

    OK = "ok"
    NEAR_MISS = "near-miss"
    UNREAD = "unread"
    ORPHAN = "orphan"
    UNEXPLAINED = "unexplained"


class Basis(StrEnum):
    """What tells that a constant corresponds to its native tensors, from the strongest."""

    VALUE = "value"
    PLACE = "place"
    NAME = "name"
    NONE = "none"


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        initializer: The stored constant's name; empty for a native tensor that no constant holds.
        natives: The native tensors that it was made from, in order.
        relation: How.
        transform: The transformation in words (``axes (3, 2, 0, 1)``, ``scaled by bn1``).
        status: What is said about it.
        ulp: Largest distance from what its natives give, in units in the last place of the stored type; 0 when equal.
        evidence: For all but ``OK`` a sentence that a person can act on.
        node: The node that reads it; the first one where several do.
        op_type: That node's operator.
        basis: What tells that the two correspond.
        sure: For a near miss, whether the values leave no other explanation. A constant of the right name, or in the
            right place, that is merely unlike its native tensor may have been merged with something else; then the
            outputs must confirm it.
        expected: What its natives give, for a near miss; not part of the JSON.
        native: For a near miss the native tensor to look at first.
    """

    initializer: str
    natives: tuple[str, ...]
    relation: Relation
    transform: str = ""
    status: EntryStatus = EntryStatus.OK
    ulp: float = 0.0
    evidence: str = ""
    node: str = ""
    op_type: str = ""
    basis: Basis = Basis.VALUE
    native: str = ""
    sure: bool = True
    expected: Array | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Ledger:
    """Every native tensor and every stored constant, accounted for or not.

    Attributes:
        entries: Faults first, then in the artifact's order; native tensors without a constant last.
        natives_accounted: Native tensors that some constant holds, or that the graph needs none of.
        natives_total: All of them.
        initializers_accounted: Stored constants that come from native tensors as they should, or were generated.
        initializers_total: All of them.
    """

    entries: tuple[Entry, ...]
    natives_accounted: int
    natives_total: int
    initializers_accounted: int
    initializers_total: int

    @property
    def near_misses(self) -> tuple[Entry, ...]:
        """Constants that clearly correspond to native tensors and differ from them."""
        return tuple(e for e in self.entries if e.status is EntryStatus.NEAR_MISS)

    @property
    def unread(self) -> tuple[Entry, ...]:
        """Constants whose readers reach no output."""
        return tuple(e for e in self.entries if e.status is EntryStatus.UNREAD)

    @property
    def faults(self) -> tuple[Entry, ...]:
        """What makes an artifact divergent: near misses, and branches that reach no output."""
        return (*self.near_misses, *self.unread)

    def of(self, initializer: str) -> Entry | None:
        """The entry of a stored constant."""
        return next((e for e in self.entries if e.initializer == initializer), None)
