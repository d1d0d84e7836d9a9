"""The second side of a check: an ONNX file, or any other model, for which its own export stands on the ladder.

A target that is no ONNX file is loaded and exported by its own framework. The export is what is judged; the framework
runs the target on the same inputs beside it, so that the target has a ladder of its own: its float32 run, its float64
run, its export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxeq import sides
from onnxeq.arrays import load_feeds
from onnxeq.errors import BadInputs, CannotRun, UsageError
from onnxeq.interface import pair_inputs
from onnxeq.jobs import JobResult, Jobs
from onnxeq.kept import store_feeds
from onnxeq.ladder import Execution, RungPlan
from onnxeq.sides import Artifact, NativeSide, Request
from onnxeq.types import Array, Export, ExportForm, ModelRef, TensorSpec
from onnxeq.zoo import converter_for

__all__ = ["PREFIX", "Target", "TargetRun", "inputs_of", "open_target"]

PREFIX = "target "
"""Stands before the names of the target's own executions."""


@dataclass(frozen=True)
class Target:
    """What the source is held against.

    Attributes:
        artifact: The ONNX file that is judged.
        name: The reader's name for the target.
        native: Its framework's model; ``None`` where the target is an ONNX file.
        export: The file as its exporter wrote it.
    """

    artifact: Artifact
    name: str
    native: NativeSide | None = None
    export: Export | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""
        if self.export is None:
            return ()
        return (
            f"{self.name} was exported: its own run is judged, and onnxruntime's of the export besides",
            *self.export.notes,
        )

    @property
    def described(self) -> Mapping[str, Any]:
        """What the target says about itself besides its export."""
        return {} if self.native is None else {"kind": self.native.ref.zoo, **self.native.job.data["provenance"]}

    def start(self, jobs: Jobs, feeds: Path, names: Mapping[str, str]) -> TargetRun | None:
        """Has its framework run it; ``None`` where it has none.

        Args:
            jobs: Where to run.
            feeds: Folder of the source's feeds.
            names: The source's input -> the artifact's.
        """
        if self.native is None or self.export is None:
            return None
        own = dict(zip(self.export.input_names, (spec.name for spec in self.native.inputs), strict=False))
        given = [
            {own[names[n]]: value for n, value in feed.items() if names.get(n) in own} for feed in load_feeds(feeds)
        ]
        folder = store_feeds(given, jobs.root)
        label = f"{PREFIX}native"
        return TargetRun(self.export, self.native.question("native-run", label, {}, {"feeds": folder}, urgency=1))


@dataclass(frozen=True)
class TargetRun:
    """The target's own executions, on their way.

    Attributes:
        export: Its export, whose outputs are in the order of the framework's.
        running: The job.
    """

    export: Export
    running: Future[JobResult] = field(repr=False)

    def executions(self, pairs: Mapping[str, str]) -> dict[str, Execution]:
        """The executions by name, outputs under the source's names; ``pairs`` are the artifact's -> the source's."""
        ran = self.running.result()
        theirs = [o["name"] for o in ran.data["outputs"]]
        if len(theirs) != len(self.export.output_names):
            made = len(self.export.output_names)
            raise CannotRun(f"the target gives {len(theirs)} outputs, and its exporter wrote {made}")
        named = dict(zip(theirs, self.export.output_names, strict=False))

        def trace(folder: str) -> tuple[dict[str, Array], ...]:
            renamed = {name: pairs.get(named.get(name, name), name) for name in theirs}
            return tuple({renamed.get(k, k): v for k, v in feed.items()} for feed in sides.native_trace(ran, folder))

        error = str(ran.data["f64_error"])
        return {
            f"{PREFIX}native/f32": Execution(f"{PREFIX}native/f32", trace("f32")),
            f"{PREFIX}native/f64": Execution(f"{PREFIX}native/f64", trace("f64"), error),
            f"{PREFIX}native/f32 again": Execution(f"{PREFIX}native/f32 again", trace("f32-repeat")),
        }

    @property
    def no_float64(self) -> str:
        """Why its framework cannot run it in float64 at all; empty where it can."""
        return str(self.running.result().data.get("no_float64", ""))

    def plans(self) -> tuple[RungPlan, ...]:
        """The rungs between the target and its export."""
        repeat = RungPlan("stability", f"{PREFIX}native/f32", f"{PREFIX}native/f32 again")
        if self.no_float64:  # its export in float64 stands in: what the two have in common is the program
            return (
                RungPlan("target-rounding", "referee/f64", f"{PREFIX}native/f32"),
                RungPlan("target-export", f"{PREFIX}native/f64", "referee/f64", asked=False, why_not=self.no_float64),
                repeat,
            )
        return (
            RungPlan("target-rounding", f"{PREFIX}native/f64", f"{PREFIX}native/f32"),
            RungPlan("target-export", f"{PREFIX}native/f64", "referee/f64"),
            repeat,
        )


def open_target(
    jobs: Jobs, target: object, request: Request, inputs_of_source: Callable[[], Sequence[TensorSpec] | None]
) -> Target:
    """Opens what the user brought: an ONNX file, or any other reference or live model.

    Args:
        jobs: Where to run.
        target: A path, a reference, an ``onnx.ModelProto`` or a live model.
        request: What the user asked for.
        inputs_of_source: What the source takes, asked when the target does not say what it takes itself.

    Raises:
        onnxeq.errors.UsageError: Nothing that can be opened, or nobody says what it takes.
        onnxeq.errors.OnnxeqError: What its framework says.
    """
    ref, live = sides.resolve(target, jobs)
    if live is None and converter_for(ref) == "onnx":
        artifact = sides.open_artifact(ref.name, jobs.root)
        return Target(artifact, artifact.path.name)
    native = _prepared(jobs, ref, live, request, inputs_of_source)
    export = native.export(ExportForm.DEPLOYED)
    return Target(_ranged(sides.open_artifact(export.path, jobs.root), native, export), ref.text, native, export)


def _ranged(artifact: Artifact, native: NativeSide, export: Export) -> Artifact:
    """The export with the values that its framework says the inputs are made for, which a file does not hold."""
    own = dict(zip(export.input_names, native.inputs, strict=False))
    inputs = tuple(
        replace(s, range=s.range or (own[s.name].range if s.name in own else None)) for s in artifact.info.inputs
    )
    return replace(artifact, info=replace(artifact.info, inputs=inputs))


def inputs_of(jobs: Jobs, ref: ModelRef, live: object | None, request: Request) -> tuple[TensorSpec, ...]:
    """What a source takes by its own account.

    Raises:
        onnxeq.errors.OnnxeqError: What its framework says.
    """
    if live is None and converter_for(ref) == "onnx":
        return sides.open_artifact(ref.name, jobs.root).info.inputs
    return sides.prepare_native(jobs, ref, live, request, declared=None, forms=(), feeds=False).inputs


def _prepared(
    jobs: Jobs,
    ref: ModelRef,
    live: object | None,
    request: Request,
    inputs_of_source: Callable[[], Sequence[TensorSpec] | None],
) -> NativeSide:
    def prepare(declared: tuple[TensorSpec, ...] | None) -> NativeSide:
        return sides.prepare_native(
            jobs, ref, live, request, declared=declared, forms=(ExportForm.DEPLOYED,), feeds=False,
            label=f"{PREFIX}native",
        )  # fmt: skip

    declared = sides.declared_inputs(request, None)
    try:
        native = prepare(declared)
    except UsageError as error:
        unsaid = declared is None and type(error) in (BadInputs, UsageError)
        given = inputs_of_source() if unsaid else None
        if not given:
            error.message = f"the target {ref.text}: {error.message}"
            raise
        return prepare(tuple(given))
    if declared is None and any(s.dtype in _QUANTIZED for s in native.inputs):
        return prepare(_in_types_of(inputs_of_source() or (), native.inputs))
    return native


_QUANTIZED = frozenset({"int8", "uint8", "int16", "uint16"})
"""Types in which a file may take its inputs quantised: held against a float model it is asked to take floats."""


def _in_types_of(ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The target's inputs in the types of the source's."""
    names = {theirs: mine for mine, theirs in pair_inputs(ours, theirs).items()}
    types = {s.name: s.dtype for s in ours}
    return tuple(replace(s, dtype=types.get(names.get(s.name, ""), s.dtype), range=None) for s in theirs)
