"""What a converter and a runner must offer. Satisfying these shapes is enough: there is no base class.

A converter is a *module* named by an entry point of the group ``onnxeq.converters``. It is listed
without being imported and imported only inside a job (or in the caller's own process when the
caller hands over a live model). It may import ``onnxeq.types``, ``onnxeq.errors``, this module and
``onnxeq.preprocessing.recipe``, and nothing else of ``onnxeq``.

A runner is a module or an object named by an entry point of the group ``onnxeq.runners``: a runtime
that reads ONNX files. It, too, is imported only inside a job, so that its crash is a job's crash.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from onnxeq.preprocessing.recipe import Recipe
from onnxeq.types import Array, Export, ExportForm, Feed, ModelRef, Precision, Signature, TensorSpec, ZooEntry

__all__ = [
    "Converter",
    "Fact",
    "KernelError",
    "LoadRequest",
    "ModelCard",
    "Native",
    "NativeValue",
    "Preprocessor",
    "Progress",
    "Runner",
    "Session",
    "SessionOptions",
]

Progress: TypeAlias = Callable[[str], None]
"""Called with the name of each step as it begins; a crash is reported with the last one."""


@dataclass(frozen=True)
class LoadRequest:
    """What to load and how.

    Attributes:
        ref: The model reference; ``ref.weights`` says which weights.
        inputs: The inputs as the user or the target declares them (names may be the target's, so
            match by name first, else by position); ``None`` when nobody said.
        seed: Seed of everything random that the caller did not seed otherwise.
        trust: Whether code stored in a model file may run.
        threads: How many threads the float64 run may use, since other jobs run beside it; 0 for the framework's
            own choice. The float32 run is as the model's users run it.
        exporter: Which of the framework's exporters to use; empty for the one that its users get.
    """

    ref: ModelRef
    inputs: tuple[TensorSpec, ...] | None = None
    seed: int = 0
    trust: bool = False
    threads: int = 0
    exporter: str = ""


@dataclass(frozen=True)
class NativeValue:
    """An intermediate value of the native program, by the name that its exporter gives it in ONNX.

    Attributes:
        name: The ONNX value's name in the unfolded export.
        array: The value.
        op: The native operator that made it, ``aten.avg_pool2d.default``.
        arguments: Its arguments by name, in order, as text; a tensor is the name of its value.
        explicit: Names of those arguments that were given and are not the operator's defaults.
        native: The layer that it belongs to, ``layer1.0.conv2``; empty for the model's own code.
        source: The line of the user's program that it comes from, where known.
    """

    name: str
    array: Array
    op: str
    arguments: Mapping[str, str]
    explicit: tuple[str, ...]
    native: str
    source: str


@dataclass(frozen=True)
class KernelError:
    """How well one native operator of the float32 run computes, judged on its own inputs.

    Attributes:
        op: The native operator.
        native: The layer that it belongs to.
        source: The line of the program, where known.
        ratio: Its largest error against the same operator in float64 on the same float32 inputs, in units of what
            rounding does to it.
        max_abs: That error in the value's own unit.
    """

    op: str
    native: str
    source: str
    ratio: float
    max_abs: float


class Native(Protocol):
    """A model loaded in its own framework, in inference mode."""

    @property
    def signature(self) -> Signature:
        """Inputs (with ranges where known) and, as far as known without running, outputs."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """Framework, versions, exporter, weights and their SHA-256."""

    @property
    def shortcut(self) -> str:
        """What the framework may run in place of the model's own code in inference mode; empty when nothing.

        Exporters follow the model's own code. ``Precision.F32_PLAIN`` is asked for only if there is a shortcut.
        """

    @property
    def no_float64(self) -> str:
        """Why the framework has no float64 execution of the program at all; empty where it has.

        Then ``run`` raises :class:`onnxeq.errors.CannotRun` for ``Precision.F64``, and it is not asked for. A single
        operator without a float64 form is no such reason: ``run`` says it.
        """

    def run(self, feed: Feed, precision: Precision) -> dict[str, Array]:
        """The outputs for one feed, named and ordered as the framework gives them.

        ``Precision.F32`` is the program as its users run it. ``Precision.F64`` is the same program
        in float64, with every float scalar argument rounded to float32 first, since that is how
        ONNX stores it. Inputs come as declared (float32) and are widened inside.
        """

    def export(self, folder: Path, forms: tuple[ExportForm, ...], opset: int | None) -> tuple[Export, ...]:
        """Writes one ONNX file per form into ``folder``, with a dynamic batch axis if it can be had.

        Raises:
            onnxeq.errors.ExportFailed: The exporter raised.
        """

    def weights(self) -> dict[str, Array]:
        """Every parameter and buffer by its native name."""

    def layers(self, feed: Feed, precision: Precision, names: Collection[str] | None = None) -> Iterator[NativeValue]:
        """The intermediate values for one feed, in the order in which they are computed, one at a time.

        They are those of the program behind the unfolded export: what its values are called is what they are called
        here, the outputs included. ``names`` limits them to some. An array is good until the next one is asked for.

        Raises:
            onnxeq.errors.OnnxeqError: The program cannot be run step by step.
        """

    def kernels(self, feed: Feed) -> Iterator[KernelError]:
        """How far each operator of the float32 run is from float64 arithmetic on its own inputs.

        Operators without float arithmetic, or without a float64 kernel, are left out.
        """


class Preprocessor(Protocol):
    """How a zoo makes a model's input of a picture."""

    @property
    def recipe(self) -> Recipe:
        """Its definition as data, read off the zoo's own."""

    def run(self, picture: Path) -> Array:
        """The model's input for one picture, a batch of one, made by the zoo's own code.

        Raises:
            onnxeq.errors.BadInputs: The file is no picture.
        """


@dataclass(frozen=True)
class Fact:
    """Something that a zoo says of a model, with where it says so; or nothing, and why it is not known.

    Attributes:
        value: A text, a number, or names with numbers (``ImageNet-1K acc@1`` -> 80.858); ``None`` when unknown.
        source: Where it stands, with the package's version; or the reason, and where a reader may look.
    """

    value: str | int | Mapping[str, float] | None
    source: str


@dataclass(frozen=True)
class ModelCard:
    """One model of a zoo: what its catalogue says, and ``accuracy``, ``licence``, ``parameters`` and ``weights``."""

    entry: ZooEntry
    facts: Mapping[str, Fact]


class Converter(Protocol):
    """The names that a converter module defines.

    It may define more, all of it optional:

    - ``warm_up(zoo: str) -> None``: imports what models of a zoo need, while a process waits for its job.
    - ``preprocessing(request: LoadRequest) -> Preprocessor``: how pictures become inputs of ``request.ref``, told
      without weights. It raises :class:`onnxeq.errors.NoRecipe` for a model that takes no pictures.
    - ``card(request: LoadRequest) -> ModelCard``: what the zoo says of ``request.ref``, told without weights.
    """

    def load(self, request: LoadRequest, progress: Progress) -> Native:
        """Loads a zoo model or a file.

        Raises:
            onnxeq.errors.UnknownModel: With the nearest names in the hint.
            onnxeq.errors.UnusableModel: The file cannot be read.
            onnxeq.errors.FrameworkMissing: With the install command in the hint.
            onnxeq.errors.WeightsUnavailable: The weights could not be had; none take their place.
        """

    def wrap(self, model: object, request: LoadRequest, progress: Progress) -> Native:
        """Takes a live model (from the caller or from a factory) without changing it."""

    def owns(self, model: object) -> bool:
        """Whether ``model`` is of this framework; must not import the framework."""

    def catalogue(self, zoo: str) -> tuple[ZooEntry, ...]:
        """The models that ``zoo`` offers."""


@dataclass(frozen=True)
class SessionOptions:
    """How a runner is to open a model.

    Attributes:
        optimize: As deployed; otherwise as literally as the runtime can: every graph optimisation off.
        threads: How many threads one run may use; 0 for the runtime's own choice.
        provider: ``cpu``, or ``cuda`` where the runner offers it.
        tf32: Whether a device may round the operands of products to TF32.
        settings: The runner's own: what the user wrote after its name (``NAME?key=value``, as text), and those of
            the experiment that is being made (:attr:`Runner.EXPERIMENTS`).
    """

    optimize: bool = True
    threads: int = 0
    provider: str = "cpu"
    tf32: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


class Session(Protocol):
    """A model that a runtime has loaded."""

    def run(self, feed: Feed) -> Mapping[str, Any]:
        """Every output of the graph, by name and in the graph's order, for one feed.

        The feed's arrays have the element types that the model declares. A sequence is a list of arrays; an
        optional output that is absent is ``None``.

        Raises:
            onnxeq.errors.CannotRun: The runtime fails on the model; any other exception is reported as its crash.
        """


class Runner(Protocol):
    """The names that a runner defines.

    A fault is isolated with nothing more than model files with further graph outputs, so :meth:`open` must take
    them. What else a runner may define, all of it optional:

    - ``NO_PLAIN: str``: why there is no mode without graph optimisations. Then the run as deployed is held against
      the referee, on the ``kernels`` rung, and the ``optimizer`` rung is not run.
    - ``EXPERIMENTS: Mapping[str, Mapping[str, Any]]``: in words (``with one thread``) -> settings under which a
      fault may go away; each is tried when a rung has broken, and those that mend it are named.
      A setting ``PROVIDER.name`` is tried on that provider only.
    - ``levels() -> Mapping[str, Mapping[str, Any]]``: name -> settings of the optimisation levels, the mildest first.
    - ``passes() -> Sequence[str]``: names of single graph optimisations; the setting ``disabled_passes``, a list
      of them, must switch them off.
    - ``save_optimized(model: Path, options: SessionOptions, target: Path) -> Session | None``: writes the optimised
      graph as an ONNX file that :meth:`open` runs literally with ``optimize`` off, and gives the session that it was
      made for, if it has one.
    """

    def open(self, model: Path, options: SessionOptions) -> Session:
        """Loads an ONNX file; external data lies beside it.

        Raises:
            onnxeq.errors.CannotRun: The runtime refuses the model, or lacks the provider.
        """

    def versions(self) -> Mapping[str, str]:
        """The runtime's packages and their versions; part of the report."""
