"""What a check needs of each side: executed traces, feeds, and an ONNX file to judge."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from onnxeq import inputs as inputs_
from onnxeq import zoo
from onnxeq.arrays import dtype_name, load_feeds
from onnxeq.errors import BadInputs, UsageError
from onnxeq.interface import pair_inputs
from onnxeq.jobs import JobResult, Jobs, JobSpec, Lane
from onnxeq.kept import is_model_proto, store_feeds, store_model
from onnxeq.native_values import NativeValues
from onnxeq.native_values import load as load_values
from onnxeq.protocols import KernelError
from onnxeq.records import export_from_record, ref_to_record, spec_from_record, spec_to_record
from onnxeq.types import Array, Export, ExportForm, Feed, ModelRef, Precision, TensorSpec

if TYPE_CHECKING:
    import onnx

    from onnxeq.graph.inspect import ModelInfo

__all__ = [
    "Artifact",
    "NativeSide",
    "Request",
    "declared_inputs",
    "fixed_by",
    "has_dynamic_batch",
    "native_trace",
    "onnx_feeds",
    "open_artifact",
    "prepare_native",
    "resolve",
]


@dataclass(frozen=True)
class Request:
    """What the user asked for, resolved.

    Attributes:
        feeds: Inputs that the user gave; empty to generate them.
        shapes: ``--shape``; the key ``""`` names an only input.
        batches: Sizes of a batch axis that may vary.
        seed: Seed of generated inputs and of a factory's random weights.
        opset: For exports; ``None`` leaves it to the exporter.
        trust: Whether code inside model files may run.
        exporter: Which of a framework's exporters to use; empty for the one that its users get.
    """

    feeds: tuple[Feed, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] | None = None
    batches: tuple[int, ...] = inputs_.DEFAULT_BATCHES
    seed: int = 0
    opset: int | None = None
    trust: bool = False
    exporter: str = ""

    @classmethod
    def of(
        cls,
        inputs: Sequence[str | os.PathLike[str] | Feed],
        shapes: Mapping[str, Sequence[int]] | None,
        *,
        batches: Sequence[int] = inputs_.DEFAULT_BATCHES,
        seed: int = 0,
        opset: int | None = None,
        trust: bool = False,
        exporter: str = "",
    ) -> Request:
        """Reads and checks what a caller handed over.

        Raises:
            UsageError: A size or an opset that cannot be, or inputs that cannot be read.
        """
        feeds: list[Feed] = []
        for item in inputs:
            if isinstance(item, Mapping):
                feeds.append({str(name): _array(value) for name, value in item.items()})
            else:
                feeds += inputs_.read([Path(item)])
        if not batches or any(size < 1 for size in batches):
            raise UsageError(f"{tuple(batches)} are no batch sizes", hint="write --batch 1,4")
        if opset is not None:
            from onnxeq.graph.inspect import newest_opset  # not above: a golden that is unchanged needs no onnx

            newest = newest_opset()
            if not OLDEST_OPSET <= opset <= newest:
                hint = f"choose one from {OLDEST_OPSET} to {newest}"
                raise UsageError(f"opset {opset} is unknown to the installed onnx", hint=hint)
        sizes = {name: tuple(shape) for name, shape in (shapes or {}).items()}
        return cls(tuple(feeds), sizes, tuple(batches), seed, opset, trust, exporter)


OLDEST_OPSET = 7


def _array(value: Any) -> Array:
    """An array from an array or a framework's tensor."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


@dataclass(frozen=True)
class Artifact:
    """An ONNX file and what it says about itself."""

    path: Path
    info: ModelInfo


BOTH_FORMS = (ExportForm.DEPLOYED, ExportForm.UNFOLDED)
"""What an artifact that was brought is held against: asked for in one go, since capturing the model takes longest."""


@dataclass(frozen=True)
class NativeSide:
    """A framework's model, loaded and exported, and how it is to be run.

    Attributes:
        ref: Its reference.
        job: The finished job that prepared it.
        inputs: What it takes.
        exports: What it was exported to.
        question: Starts another job with the same model: kind, label, parameters, files that it reads, ``urgency``,
            ``cache`` (whether an earlier answer will do).
        release: Ends the process that holds the model; a later question loads it again.
    """

    ref: ModelRef
    job: JobResult
    inputs: tuple[TensorSpec, ...]
    exports: tuple[Export, ...]
    question: Callable[..., Future[JobResult]]
    release: Callable[[], None]

    def start(self) -> Future[JobResult]:
        """Starts the job that runs it on its feeds, before the jobs that nothing waits for."""
        return self.question("native-run", "native", {}, {"feeds": self.feeds}, urgency=1)

    def exported(self, forms: Sequence[ExportForm], opset: int | None = None) -> tuple[Export, ...]:
        """Further exports of the model, made now.

        Raises:
            onnxeq.errors.OnnxeqError: What the converter says.
        """
        params = {"forms": [f.value for f in forms], "opset": opset}
        done = self.question("native-export", "native export", params, {}).result()
        return tuple(export_from_record(e, done.out) for e in done.data["exports"])

    def weights(self) -> Feed:
        """Every parameter and buffer by its native name."""
        done = self.question("native-weights", "native weights", {}, {}).result()
        return load_feeds(done.out / "weights")[0]

    def layers(self, precision: Precision = Precision.F64, names: Sequence[str] | None = None) -> NativeValues:
        """The program's intermediate values on its smallest feed, by the names of the unfolded export."""
        asked = {"precision": precision.value, "names": None if names is None else sorted(names)}
        done = self.question("native-layers", f"native layers {precision.value}", asked, {"feeds": self.feeds}).result()
        return load_values(done.out / "layers")

    def kernels(self) -> tuple[KernelError, ...]:
        """How far each operator of the float32 run on its smallest feed is from float64 on its own inputs."""
        done = self.question("native-kernels", "native kernels", {}, {"feeds": self.feeds}).result()
        return tuple(KernelError(**row) for row in done.data["kernels"])

    @property
    def feeds(self) -> Path:
        """The folder of the feeds."""
        return self.job.out / "feeds"

    def export(self, form: ExportForm) -> Export:
        """The export of that form."""
        return next(e for e in self.exports if e.form is form)


def native_trace(run: JobResult, name: str) -> tuple[dict[str, Array], ...]:
    """One of the traces ``f32``, ``f64``, ``f32-repeat``; empty when it could not be run."""
    folder = run.out / name
    return tuple(load_feeds(folder)) if (folder / "index.json").exists() else ()


def resolve(source: object, jobs: Jobs) -> tuple[ModelRef, object | None]:
    """A reference for whatever the caller handed over, and the live model if it is one.

    A model of the ONNX Model Zoo is fetched, and its reference names the file.

    Raises:
        onnxeq.errors.OnnxeqError: It is no reference, or the zoo does not have it.
    """
    if isinstance(source, (str, os.PathLike)):
        ref = zoo.parse(os.fspath(source))
        return (_from_onnx_zoo(ref, jobs) if ref.zoo == "onnx-zoo" else ref), None
    if source is None:
        raise UsageError("there is no model to check", hint="give a reference, a path, or a model")
    if is_model_proto(source):
        path = store_model(cast("onnx.ModelProto", source), jobs.root)
        return ModelRef("ModelProto", "file", str(path)), None
    return ModelRef(type(source).__name__, "live", type(source).__qualname__), source


def _from_onnx_zoo(ref: ModelRef, jobs: Jobs) -> ModelRef:
    if ref.weights not in ("", "pretrained", "seeded"):
        raise UsageError(f"{ref.text}: a model of the ONNX Model Zoo takes no weights of others", hint="leave @... out")
    params = {"name": ref.name, "seed": ref.seed if ref.weights == "seeded" else None}
    done = jobs.start(JobSpec("onnx-zoo", "onnx-zoo", params)).result()
    return replace(ref, name=str(done.out / str(done.data["path"])))


_NATIVE_KIND = {"float16": "float32", "bfloat16": "float32"}
"""An artifact in reduced precision is fed in it; the source it came from is fed in float32."""


def declared_inputs(request: Request, target: Artifact | None) -> tuple[TensorSpec, ...] | None:
    """The inputs as the user's files, ``--shape`` or the target declare them; ``None`` when nobody does."""
    if target is not None:
        from onnxeq.graph.skim import skim

        ranges = inputs_.index_ranges(skim(target.path).model)  # asks for shapes alone
        specs = tuple(
            replace(
                s,
                dtype=_given_kind(s.name, request.feeds) or _NATIVE_KIND.get(s.dtype, s.dtype),
                range=s.range or inputs_.range_over(s.name, request.feeds) or ranges.get(s.name),
            )
            for s in target.info.inputs
        )
        return inputs_.with_shapes(specs, request.shapes or {})
    if request.feeds:
        return tuple(_spec_over(name, request.feeds) for name in request.feeds[0])
    if request.shapes:
        return tuple(TensorSpec(name or "#0", "float32", shape) for name, shape in request.shapes.items())
    return None


def _given_kind(name: str, feeds: Sequence[Feed]) -> str:
    """The element type of an input that the user gives; empty for what is to be made."""
    return next((dtype_name(feed[name]) for feed in feeds if name in feed), "")


def _spec_over(name: str, feeds: Sequence[Feed]) -> TensorSpec:
    """What all feeds have in common: a size in which they differ may vary."""
    shapes = [feed[name].shape for feed in feeds if name in feed]
    first = shapes[0]
    if any(len(shape) != len(first) for shape in shapes):
        raise BadInputs(f"input '{name}' has another rank from one feed to the next", hint="give feeds of one rank")
    sizes = tuple(
        size if len({shape[axis] for shape in shapes}) == 1 else f"{name}_{axis}" for axis, size in enumerate(first)
    )
    return TensorSpec(name, dtype_name(feeds[0][name]), sizes, inputs_.range_over(name, feeds))


def prepare_native(
    jobs: Jobs,
    ref: ModelRef,
    live: object | None,
    request: Request,
    *,
    declared: tuple[TensorSpec, ...] | None,
    forms: Sequence[ExportForm],
    dynamic_batch: bool | None = None,
    feeds: bool = True,
    label: str = "native",
    lane: Lane | None = None,
) -> NativeSide:
    """Loads and exports a framework's model, in a process of its own, or here when it is a live object.

    Args:
        jobs: Where to run.
        ref: Its reference.
        live: The live object, if it is one.
        request: What the user asked for.
        declared: Its inputs, when somebody declared them.
        forms: What to export.
        dynamic_batch: Whether feeds may have any batch size; ``None`` leaves it to the export.
        feeds: Whether it is going to be run.
        label: What the reader sees of its jobs.
        lane: The process to run in, where models follow one another; its own by default.
    """
    reads: dict[str, Path] = {}
    if ref.zoo == "file":
        reads["model"] = Path(ref.name)
    elif (folder := Path(ref.name.partition("#")[0])).is_absolute():  # a zoo's model in a folder
        reads["model"] = folder
    if ref.module.endswith(".py"):
        reads["module"] = Path(ref.module)
    reads |= {f"weights {i}" if i else "weights": path for i, path in enumerate(zoo.weights_files(ref))}
    load = {
        "ref": ref_to_record(ref),
        "converter": zoo.converter_for(ref),
        "inputs": None if declared is None else [spec_to_record(s) for s in declared],
        "seed": request.seed,
        "trust": request.trust,
        "threads": jobs.threads_each,
        "exporter": request.exporter,
    }
    params = {
        "load": load,
        "forms": [f.value for f in forms],
        "opset": request.opset,
        "batches": list(request.batches) if feeds else [],
        "dynamic_batch": dynamic_batch,
    }
    given = {"feeds": store_feeds(request.feeds, jobs.root)} if request.feeds else {}
    # What a user's code reads and imports cannot be known, so what it made is not reused.
    spec = JobSpec("native", label, params, {**reads, **given}, cache=ref.zoo != "factory")
    lane, shared = lane or jobs.lane(), dict[str, Any]()

    def run(job: JobSpec, *, urgency: int = 0) -> Future[JobResult]:
        if live is None:
            return jobs.start(job, lane, urgency=urgency)
        done: Future[JobResult] = Future()
        done.set_result(jobs.run_inline(job, {"model": live}, shared))
        return done

    if live is None:
        spec = replace(spec, environment=zoo.require_framework(ref, environment=jobs.where("native")))
    elif (there := jobs.where("native")) is not None:
        hint = "name a file or a factory in its place"
        raise UsageError(f"a live model cannot be handed to the environment '{there.name}'", hint=hint)
    prepared = run(spec).result()
    same = {"load": load, "weights_sha256": prepared.data["provenance"]["weights_sha256"]}

    def question(
        kind: str, label: str, asked: Mapping[str, Any], files: Mapping[str, Path], *, urgency: int = 0,
        cache: bool = True,
    ) -> Future[JobResult]:  # fmt: skip
        job = replace(spec, kind=kind, label=label, params={**same, **asked}, inputs={**reads, **files})
        return run(job if cache else replace(job, cache=False), urgency=urgency)

    exports = tuple(export_from_record(e, prepared.out) for e in prepared.data["exports"])
    return NativeSide(
        ref, prepared, tuple(spec_from_record(s) for s in prepared.data["inputs"]), exports, question, lane.close
    )


def onnx_feeds(source: Artifact, request: Request, target: Artifact | None) -> list[dict[str, Array]]:
    """Feeds for an ONNX source: the user's, checked, or generated ones that suit the target as well."""
    if request.feeds:
        return [inputs_.check_feed(feed, source.info.inputs) for feed in request.feeds]
    specs = declared_inputs(replace(request, shapes=None), source) or ()
    if target is not None:
        names = pair_inputs(specs, target.info.inputs)
        theirs = {s.name: s for s in target.info.inputs}
        specs = tuple(fixed_by(s, theirs.get(names.get(s.name, ""))) for s in specs)
    specs = inputs_.with_shapes(specs, request.shapes or {})
    dynamic = has_dynamic_batch(specs)
    return inputs_.generate(specs, seed=request.seed, batches=request.batches, dynamic_batch=dynamic)


def fixed_by(ours: TensorSpec, theirs: TensorSpec | None) -> TensorSpec:
    """Our specification, with the sizes that only the other side has fixed."""
    if theirs is None or ours.shape is None or theirs.shape is None or len(ours.shape) != len(theirs.shape):
        return ours
    sizes = tuple(
        b if isinstance(a, str) and isinstance(b, int) else a for a, b in zip(ours.shape, theirs.shape, strict=True)
    )
    return replace(ours, shape=sizes)


def fixed_note(source: Artifact, target: Artifact, names: Mapping[str, str]) -> str:
    """What to say when the target fixes sizes that the source leaves free."""
    theirs = {s.name: s for s in target.info.inputs}
    for spec in source.info.inputs:
        if (other := theirs.get(names.get(spec.name, ""))) is not None and fixed_by(spec, other) != spec:
            return f"the artifact fixes sizes that the source leaves free: {other.text()} against {spec.text()}"
    return ""


def has_dynamic_batch(specs: Sequence[TensorSpec]) -> bool:
    """Whether the first axis of some input may vary."""
    return any(bool(s.shape) and isinstance(s.shape[0], str) for s in specs if s.shape is not None)


def open_artifact(target: object, root: Path) -> Artifact:
    """The artifact that the user brought: a path or a live ``ModelProto``."""
    from onnxeq.graph.inspect import inspect

    if isinstance(target, (str, os.PathLike)):
        ref = zoo.parse(os.fspath(target))
        if ref.zoo != "file" or zoo.converter_for(ref) != "onnx":
            raise UsageError(f"the target {ref.text} is no ONNX file", hint="give an .onnx file as the second argument")
        path = Path(ref.name)
    elif is_model_proto(target):
        path = store_model(cast("onnx.ModelProto", target), root)
    else:
        raise UsageError(f"a target cannot be a {type(target).__name__}", hint="give a path or an onnx.ModelProto")
    return Artifact(path, inspect(path))
