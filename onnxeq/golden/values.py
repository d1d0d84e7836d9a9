"""What a golden is: frozen values, no behaviour, no heavy import.

A *golden* holds what a model gave when it was recorded: the outputs of at least two independent executions, how far
rounding alone may move them (the *error bar*), and everything that made them (the *provenance*). :mod:`.record_file`
writes it as text that a person reviews; the numbers lie beside it (:mod:`.arrays_file`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxeq.compat import StrEnum

__all__ = [
    "SCHEMA",
    "Agreement",
    "Bar",
    "Born",
    "Golden",
    "How",
    "Identity",
    "Inputs",
    "InputsKind",
    "Note",
    "Origin",
    "OutputRecord",
    "Pending",
    "Role",
    "Tensor",
    "Verdict",
]

SCHEMA = "onnxeq.golden/1"


class Origin(StrEnum):
    """Where a golden's arrays come from."""

    RECORDED = "recorded"
    IMPORTED = "imported"


class InputsKind(StrEnum):
    """Where a golden's inputs come from when it is checked."""

    SEED = "seed"
    """They are generated again from the seed and the tensors' specifications."""
    FILES = "files"
    """They are read from files, whose content the digest holds to."""
    STORED = "stored"
    """They lie beside the outputs."""


class Role(StrEnum):
    """What an execution is in a golden, whatever it is called in full."""

    NATIVE = "native"
    """The framework's own float32 run."""
    RUNTIME = "runtime"
    """The ONNX file in a runtime, as deployed."""
    REFEREE = "referee"
    """The ONNX file in float64."""
    IMPORTED = "imported"
    """Arrays of an import: who made them is not known."""


class Verdict(StrEnum):
    """What checking one golden concludes."""

    UNCHANGED = "unchanged"
    """Every execution gives the same bits."""
    WITHIN = "within the error bar"
    """Other bits, no further away than rounding explains."""
    CHANGED = "changed"
    """Further away than rounding explains."""
    SUSPECT = "golden suspect"
    """Independent executions agree with each other, and not with the golden, though nothing of the model changed."""
    NEW = "new"
    """There is none of that name yet: this one waits to become it."""
    STALE = "stale"
    """The model that it names is not there any more."""
    UNUSABLE = "unusable"
    """Its record or its arrays are damaged, or of a newer form."""
    NOT_RUN = "not run"
    """The model could not be run here."""
    ELSEWHERE = "checked by its own test"
    """Its model is a live object, which only the test that makes it has."""


@dataclass(frozen=True)
class Tensor:
    """An input as the model takes it.

    Attributes:
        name: Its name.
        dtype: numpy's name of the element type.
        shape: Sizes, or a name where one may vary.
        range: Lowest and highest value of generated numbers; empty when nobody said.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    range: tuple[float, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """What the model was fed with.

    Attributes:
        kind: Where they come from.
        sha256: :func:`onnxeq.arrays.feeds_digest` over all feeds.
        feeds: How many there are.
        files: For :attr:`InputsKind.FILES`, paths relative to the folder of the goldens.
        seed: Of the generator.
        batches: Batch sizes that were generated.
        dynamic: Whether the batch may vary.
        tensors: What was generated.
    """

    kind: InputsKind
    sha256: str
    feeds: int
    files: tuple[str, ...] = ()
    seed: int = 0
    batches: tuple[int, ...] = ()
    dynamic: bool = True
    tensors: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class How:
    """How the model is loaded, exported and run; see :class:`onnxeq.sides.Request`.

    Attributes:
        seed: Of generated inputs and of a factory's random weights.
        batches: Batch sizes asked for.
        shapes: Input name -> ``1x3x224x224``; the name may be empty.
        opset: Of the export; 0 leaves it to the exporter.
        exporter: Which one; empty for the framework's default.
        runner: The runtime; ``ort`` by default.
        provider: ``cpu`` or ``cuda``.
    """

    seed: int = 0
    batches: tuple[int, ...] = ()
    shapes: Mapping[str, str] = field(default_factory=dict)
    opset: int = 0
    exporter: str = ""
    runner: str = "ort"
    provider: str = "cpu"


@dataclass(frozen=True)
class Identity:
    """What the model was, by digests that tell its parts from each other.

    Attributes:
        onnx: SHA-256 of the ONNX file with its external data.
        graph: Of the nodes, attributes and interface, whatever their names.
        weights: Of the stored float tensors, whatever their names and order.
        native: The framework's own SHA-256 of its weights; empty for an ONNX file.
    """

    onnx: str
    graph: str
    weights: str
    native: str = ""


@dataclass(frozen=True)
class Born:
    """One execution at birth.

    Attributes:
        role: What it is.
        name: As the ladder calls it, ``ort/cpu``.
        sha256: Of each output, in the order of the golden's outputs.
    """

    role: Role
    name: str
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class OutputRecord:
    """One output on one feed, as its first execution gave it.

    Attributes:
        feed: Index of the feed.
        name: The output's name.
        dtype: numpy's name of the element type.
        shape: Sizes.
        sampled: Whether the arrays hold a sample and sums of blocks in the place of all elements.
        min: Smallest finite element.
        max: Largest finite element.
        mean: Over the finite elements.
        l2: Root of the sum of squares.
        top: Positions of the largest elements along the last axis, in its first row; the largest first.
        top_values: The elements there.
        noise: Root mean square of the rounding noise, in the output's unit.
        floor: The same of the constant floor.
    """

    feed: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    sampled: bool
    min: float
    max: float
    mean: float
    l2: float
    top: tuple[int, ...]
    top_values: tuple[float, ...]
    noise: float
    floor: float


@dataclass(frozen=True)
class Agreement:
    """How far two executions were apart at birth, in rounding noise."""

    first: str
    second: str
    ratio: float
    max_abs: float


@dataclass(frozen=True)
class Bar:
    """The error bar: how far an execution may be from the golden.

    Attributes:
        limit: Units of rounding noise between two runs in the golden's precision.
        floor: Units of the constant floor between two runs in float64.
        missing: Why the units could not be measured; then only what float32's own spacing explains is let pass.
    """

    limit: float
    floor: float
    missing: str = ""


@dataclass(frozen=True)
class Note:
    """An earlier acceptance."""

    on: str
    because: str
    found: str = ""


@dataclass(frozen=True)
class Pending:
    """What stands in a record that waits for a decision.

    Attributes:
        against: SHA-256 of the accepted record that it was held against.
        verdict: What was found.
        ratio: Largest distance from the golden in noise units.
        causes: In words, the worst first.
        changes: Provenance lines that are other ones now.
    """

    against: str
    verdict: Verdict
    ratio: float
    causes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Golden:
    """The record of a golden.

    Attributes:
        name: Its name.
        model: The reference, paths relative to the folder of the goldens; ``live:NAME`` for an object of a test.
        origin: Where the arrays come from.
        on: The day it was recorded.
        arrays: Name of the file with the numbers.
        arrays_sha256: Of that file.
        how: How the model is run.
        inputs: What it is fed with.
        identity: What it was.
        provenance: What made the outputs: versions, exporter, providers, machine.
        executions: The executions at birth, the one that users see first.
        outputs: One for each output and feed.
        agreement: How the executions agreed.
        bar: The error bar.
        layers: How many values of the graph have a digest.
        notes: What a reader must know.
        history: Earlier acceptances, the oldest first.
        pending: For a record that waits for a decision.
    """

    name: str
    model: str
    origin: Origin
    on: str
    arrays: str
    arrays_sha256: str
    how: How
    inputs: Inputs
    identity: Identity
    provenance: Mapping[str, str]
    executions: tuple[Born, ...]
    outputs: tuple[OutputRecord, ...]
    agreement: tuple[Agreement, ...]
    bar: Bar
    layers: int = 0
    notes: tuple[str, ...] = ()
    history: tuple[Note, ...] = ()
    pending: tuple[Pending, ...] = ()
