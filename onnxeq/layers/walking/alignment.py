"""What is known of an artifact that runs beside its reference: which values are the same, and where it departs."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxeq.layers.likeness import Digest, Layout, Pool
from onnxeq.layers.program import Program
from onnxeq.referee.frames import Entry
from onnxeq.types import Array

__all__ = ["Alignment", "Counterpart", "Departure", "State", "shares_names"]


class State(enum.Enum):
    """What is known of a value of the artifact."""

    SAME = "same"
    """It is a value of the reference."""
    WRONG = "wrong"
    """Its operands are the reference's, it is not; the reference's took its place."""
    OPEN = "open"
    """The reference has no such value, or none was found."""


@dataclass(frozen=True)
class Counterpart:
    """The reference's value for one of the artifact; ``layout`` says how it lies in the artifact."""

    name: str
    layout: Layout | None = None


@dataclass(frozen=True)
class Departure:
    """A value that is not what the reference has in its place.

    Attributes:
        value: Its name in the artifact.
        position: The node that makes it.
        counterpart: What the reference has; ``None`` when that was not found, and then nothing behind it is judged.
        own: What the artifact computes from the reference's operands.
        units: How far that is from the counterpart, see :func:`onnxeq.layers.likeness.distance`.
        problem: Why it could not be computed, if it could not.
        slack: What rounding of constants does to the value.
    """

    value: str
    position: int
    counterpart: Counterpart | None
    own: Array | None
    units: float
    problem: str = ""
    slack: Array | None = None


@dataclass
class Alignment:
    """The state of a walk: grows as nodes are computed.

    Attributes:
        artifact: What is judged.
        reference: What it is held against.
        theirs: The reference's values.
        values: The artifact's, corrected.
        states: What is known of each.
        counterparts: Value of the artifact -> the reference's.
        departures: The faults, in the order in which they were found.
        by_name: Whether the two graphs share their names.
    """

    artifact: Program
    reference: Program
    theirs: Mapping[str, Entry]
    values: dict[str, Entry]
    by_name: bool
    states: dict[str, State] = field(default_factory=dict)
    counterparts: dict[str, Counterpart] = field(default_factory=dict)
    departures: list[Departure] = field(default_factory=list)
    slacks: dict[str, Array] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Array] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    pool: Pool = field(default_factory=lambda: Pool({}))
    weights: Pool = field(default_factory=lambda: Pool({}))
    twins: dict[int, frozenset[str]] = field(default_factory=dict)
    exact: frozenset[Digest] = frozenset()
    free_layout: bool = False

    @property
    def share(self) -> float:
        """The share of the values made from the inputs that the reference has, too."""
        made = [n for n in self.artifact.makers if n not in self.artifact.constant]
        return sum(self.states.get(n) is State.SAME for n in made) / max(1, len(made))

    def settled(self, name: str) -> bool:
        """Whether a value is the reference's, by itself or by correction."""
        return name in self.artifact.constant or self.states.get(name) in (State.SAME, State.WRONG)


def shares_names(artifact: Program, reference: Program) -> bool:
    """Whether the names of values mean the same in both: most are there, made by the same operators."""
    common = [name for name in artifact.makers if name in reference.makers]
    if len(common) < 0.6 * len(artifact.makers) or not common:
        return False
    same = sum(
        artifact.nodes[artifact.makers[n]].op_type == reference.nodes[reference.makers[n]].op_type for n in common
    )
    return same >= 0.75 * len(common)
