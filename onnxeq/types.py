"""The values that everything else takes and returns: frozen, typed, no heavy import.

Vocabulary: a *model reference* names a model; a *signature* says what it takes and gives; a *rung*
compares two *executions* that differ in one respect; a *report* is the verdict with its evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxeq.compat import StrEnum

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Array",
    "Cause",
    "CauseKind",
    "Coverage",
    "Dim",
    "Export",
    "ExportForm",
    "Feed",
    "Layer",
    "LayerError",
    "ModelRef",
    "OutputSummary",
    "PairedBy",
    "Precision",
    "Report",
    "Role",
    "Rung",
    "Signature",
    "Status",
    "TensorSpec",
    "ValueRange",
    "Verdict",
    "Where",
    "ZooEntry",
    "example_size",
]

if TYPE_CHECKING:
    Array: TypeAlias = NDArray[Any]
else:
    Array: TypeAlias = Any

Feed: TypeAlias = Mapping[str, Array]
"""One set of named inputs (or outputs), in the model's own order."""

Dim: TypeAlias = int | str
"""A fixed size, or the name of a dimension that may vary (ONNX ``dim_param``)."""


class Precision(StrEnum):
    """The arithmetic of a native execution.

    ``F32`` is the program as its users run it; ``F32_PLAIN`` the same without shortcuts that the framework takes in
    inference mode only; ``F64`` is without them, too.
    """

    F32 = "f32"
    F32_PLAIN = "f32-plain"
    F64 = "f64"


class ExportForm(StrEnum):
    """Two exports of one model by one exporter.

    ``DEPLOYED`` is what users get. ``UNFOLDED`` keeps every native parameter as it is (no folding
    of BatchNorm, no constant folding), so that in float64 it must agree with the native program to
    float64 rounding.
    """

    DEPLOYED = "deployed"
    UNFOLDED = "unfolded"


class Verdict(StrEnum):
    """What a check concludes."""

    EQUIVALENT = "equivalent"
    DIVERGENT = "divergent"
    INCONCLUSIVE = "inconclusive"


class CauseKind(StrEnum):
    """Why two executions differ."""

    WEIGHTS = "weights"
    GRAPH = "graph"
    RUNTIME = "runtime"
    PREPROCESSING = "preprocessing"
    NONDETERMINISM = "nondeterminism"
    GOLDEN = "golden"


class Status(StrEnum):
    """The outcome of one rung."""

    PASS = "pass"
    FAIL = "fail"
    NOT_RUN = "not-run"


@dataclass(frozen=True)
class ValueRange:
    """Where a model's input values lie: ``low <= value < high`` (integers: ``high`` excluded)."""

    low: float
    high: float


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor of a model's interface.

    Attributes:
        name: The framework's or ONNX's own name.
        dtype: numpy's name of the element type (``float32``, ``int64``, ``bool``, ``bfloat16``).
        shape: Sizes, with a name for each dimension that may vary; ``None`` when unknown.
        range: The values that an input is made for; ``None`` when nobody said.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None
    range: ValueRange | None = None

    def text(self) -> str:
        """ONNX notation, ``float32[N,3,224,224]``."""
        if self.shape is None:
            return f"{self.dtype}[?]"
        return f"{self.dtype}[{','.join(str(d) for d in self.shape)}]"


_IMAGE_SIZE = 224
_FREE_SIZE = 16


_LENGTHS = ("seq", "past", "token", "length")
"""What the name of a dimension holds that counts the positions of a text."""


def example_size(spec: TensorSpec, dim: str) -> int:
    """How large a dimension that may vary, and is not the batch, is made where nobody says.

    224 for the height or width of an image (a float tensor of rank 4 with 1, 3 or 4 channels), else 16. Names joined
    by ``+`` are as large as what they name together: ``past+sequence`` is 32. A length of text is no height: a cache of
    four heads, ``[N,4,past_sequence,64]``, looks like an image otherwise.
    """
    shape = spec.shape or ()
    image = (
        not any(word in dim.lower() for word in _LENGTHS)
        and len(shape) == 4
        and spec.dtype.startswith("float")
        and (shape[1] in (1, 3, 4) or shape[3] in (1, 3, 4))
    )
    return (_IMAGE_SIZE if image else _FREE_SIZE) * len(dim.split("+"))


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, in its own order. Outputs may be empty until it has run."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True)
class ModelRef:
    """A parsed model reference, ``zoo:name[@weights]`` or a path.

    Attributes:
        text: As the user wrote it.
        zoo: ``torchvision``, ``keras``, ... ; ``file`` for a path; ``factory`` for
            ``module_or_file.py:callable``; ``live`` for an object handed to the Python API.
        name: The model's name in its zoo, the path, or the callable's name.
        weights: What stood after ``@`` (``pretrained``, ``seeded``, a path); empty when nothing did.
        seed: The number after ``seeded:``.
        module: For a factory, the module name or the path of its file; for a SavedModel, the signature to run (the
            default one if empty).
    """

    text: str
    zoo: str
    name: str
    weights: str = ""
    seed: int = 0
    module: str = ""


@dataclass(frozen=True)
class ZooEntry:
    """One model that a zoo offers."""

    name: str
    family: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Export:
    """One ONNX file that an exporter wrote.

    Attributes:
        path: The file; external data, if any, lies beside it.
        form: Which of the two exports it is.
        dynamic_batch: Whether the first axis of the inputs may vary.
        input_names: The ONNX input for each native input, in the native order.
        output_names: The ONNX output for each native output, in the native order.
        notes: What the reader should know (``batch baked in: ...``).
    """

    path: Path
    form: ExportForm
    dynamic_batch: bool
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Where:
    """The place of a cause, as far as it is known; empty fields are unknown. ``step`` is one of the preprocessing."""

    node: str = ""
    op_type: str = ""
    value: str = ""
    native: str = ""
    initializer: str = ""
    step: str = ""


@dataclass(frozen=True)
class Cause:
    """Why the verdict is ``divergent``, with one sentence that a person can act on."""

    cause: CauseKind
    rung: str
    ratio: float
    where: Where
    evidence: str


@dataclass(frozen=True)
class Rung:
    """Two neighbouring executions and how far they are apart.

    Attributes:
        name: ``graph``, ``kernels``, ...
        source: The execution that is taken as given (JSON: ``from``).
        target: The execution that is judged (JSON: ``to``).
        max_abs: Largest absolute difference at the worst output and input, in the output's unit.
        noise: RMS of the noise unit where the ratio is largest, in the output's unit.
        ratio: Largest error in noise units, over outputs, inputs and groups of elements.
        limit: The ratio up to which rounding explains the error.
        status: ``pass``, ``fail`` or ``not-run``.
        reason: Why it was not run, or what explains a pass that is not obvious.
        output: The output with the largest ratio.
        unit: What the ratio is in: ``rounding noise``, ``constant floor``, ...
    """

    name: str
    source: str
    target: str
    max_abs: float
    noise: float
    ratio: float
    limit: float
    status: Status
    reason: str = ""
    output: str = ""
    unit: str = ""


@dataclass(frozen=True)
class OutputSummary:
    """How the deployed output compares with the native one, in the classic figures."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    cosine: float
    sqnr_db: float
    top1_agreement: float


@dataclass(frozen=True)
class Coverage:
    """How much was looked at."""

    outputs_compared: int
    outputs_total: int
    inputs_tried: int
    nodes_compared: int
    nodes_total: int
    weights_accounted: int
    weights_total: int


class PairedBy(StrEnum):
    """How it is known that a value of one execution is a value of the other, the surest first."""

    STRUCTURE = "structure"
    """Computed from paired values by the same operators with the same attributes and constants."""
    NAME = "name"
    """Both sides call it the same, or the exporter notes what it was, and nothing speaks against it."""
    VALUE = "value"
    """The numbers are the same, and no other value of that kind has them."""
    CONTEXT = "context"
    """What it is made from, or what is made from it, is paired, and nothing else fits between."""


class Role(StrEnum):
    """What a layer does to the error."""

    CREATES = "creates"
    """Its own error, with nothing passed on to it, is more than rounding."""
    AMPLIFIES = "amplifies"
    """It makes a passed-on error much larger, relative to its values, and adds none of its own."""
    PASSES = "passes"
    """What comes out differs by more than rounding, because what came in does."""
    QUIET = "quiet"
    """What comes out differs by rounding only."""
    UNDONE = "undone"
    """It computes something else, and layers behind it undo that: the outputs agree."""
    UNKNOWN = "unknown"
    """Its value exists on one side only, or could not be computed."""


@dataclass(frozen=True)
class LayerError:
    """An error of one value, in its own unit and in noise units; see :func:`onnxeq.measure.compare`."""

    max_abs: float
    noise: float
    ratio: float


@dataclass(frozen=True)
class Layer:
    """One value that two executions have in common, with the node that makes it.

    Attributes:
        index: Position of the node in the order of the judged graph.
        node: Its label there.
        op_type: Its operator.
        value: The value's name there.
        native: The source's layer, ``layer1.0.conv2``; empty where it has none.
        source_value: The value's name on the source's side; empty when it has none there.
        region: Labels of further nodes that were judged together with it, since the values between exist on one side
            only: a folded BatchNormalization, a fused kernel.
        paired_by: How the two were found to be the same; ``None`` when they were not.
        confidence: From 0 to 1, that they are.
        dtype: numpy's name of the element type.
        shape: Of the value.
        propagated: How far the two sides are apart as they ran, in the noise that rounding has made up to here.
        local: How far the target's layer, fed with the source's inputs, is from the source's result, in the rounding
            noise of this layer alone.
        source_ratio: Part of the local error that is the source's: its result against the judged graph in float64 on
            the source's inputs.
        target_ratio: The same of the target, on the target's inputs.
        role: What the layer does to the error.
        condition: By how much the relative error grows from the worst input to the result; NaN when nothing came in.
        note: What else a reader must know (a flip beside a tie, a value on one side only).
        reason: What is known to be different in the two graphs where the layer creates error and that shows here. Such
            layers are told before those without: an error is only evidence, a difference is proof.
    """

    index: int
    node: str
    op_type: str
    value: str
    native: str
    source_value: str
    region: tuple[str, ...]
    paired_by: PairedBy | None
    confidence: float
    dtype: str
    shape: tuple[int, ...]
    propagated: LayerError
    local: LayerError
    source_ratio: float
    target_ratio: float
    role: Role
    condition: float
    note: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """The verdict of one check, with its evidence. Rendering is elsewhere (``onnxeq.report``).

    Attributes:
        verdict: What was concluded.
        source: What was taken as the reference: ``ref``, ``kind``, ``sha256``, ...
        target: The artifact that was judged.
        environment: Versions, providers and machine.
        causes: Worst first; empty when equivalent.
        rungs: In the order of the ladder.
        outputs: The classic figures for each output.
        coverage: How much was looked at.
        notes: What a reader must know besides (a baked-in batch, outputs paired by value).
        timings: Wall seconds and peak bytes of each job.
        layers: What :func:`onnxeq.diff` found, layer by layer, in the order of the judged graph.
        ledger: The counts of the weights ledger, and its entries that are not plainly right.
        preprocessing: The recipes by which pictures became inputs, and what exchanging each step does.
    """

    verdict: Verdict
    source: Mapping[str, Any]
    target: Mapping[str, Any]
    environment: Mapping[str, Any]
    causes: tuple[Cause, ...]
    rungs: tuple[Rung, ...]
    outputs: tuple[OutputSummary, ...]
    coverage: Coverage
    notes: tuple[str, ...] = ()
    timings: tuple[Mapping[str, Any], ...] = ()
    layers: tuple[Layer, ...] = ()
    ledger: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def equivalent(self) -> bool:
        """Whether every rung that was asked for ran and passed."""
        return self.verdict is Verdict.EQUIVALENT
