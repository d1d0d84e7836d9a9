"""What a check needs of each side: executed traces, feeds, and an ONNX file to judge."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from onnxeq import inputs as inputs_
from onnxeq import zoo
from onnxeq.arrays import feeds_digest, load_feeds, save_feeds
from onnxeq.errors import UsageError
from onnxeq.graph import inspect as onnx_file
from onnxeq.graph.inspect import ModelInfo
from onnxeq.jobs import JobResult, Jobs, JobSpec
from onnxeq.records import export_from_record, ref_to_record, spec_from_record, spec_to_record
from onnxeq.types import Array, Export, ExportForm, Feed, ModelRef, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Artifact",
    "NativeSide",
    "Request",
    "declared_inputs",
    "has_dynamic_batch",
    "native_job",
    "onnx_feeds",
    "open_artifact",
    "resolve",
    "run_native",
    "store_feeds",
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
    """

    feeds: tuple[Feed, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] | None = None
    batches: tuple[int, ...] = inputs_.DEFAULT_BATCHES
    seed: int = 0
    opset: int | None = None
    trust: bool = False


@dataclass(frozen=True)
class Artifact:
    """An ONNX file and what it says about itself."""

    path: Path
    info: ModelInfo


@dataclass(frozen=True)
class NativeSide:
    """A finished native job."""

    ref: ModelRef
    job: JobResult
    inputs: tuple[TensorSpec, ...]
    exports: tuple[Export, ...]

    def trace(self, name: str) -> tuple[dict[str, Array], ...]:
        """One of the traces ``f32``, ``f64``, ``f32-repeat``; empty when it could not be run."""
        folder = self.job.out / name
        return tuple(load_feeds(folder)) if (folder / "index.json").exists() else ()

    def export(self, form: ExportForm) -> Export:
        """The export of that form."""
        return next(e for e in self.exports if e.form is form)


def resolve(source: object, root: Path) -> tuple[ModelRef, object | None]:
    """A reference for whatever the caller handed over, and the live model if it is one."""
    if isinstance(source, (str, os.PathLike)):
        return zoo.parse(os.fspath(source)), None
    if is_model_proto(source):
        path = store_model(cast("onnx.ModelProto", source), root)
        return ModelRef("ModelProto", "file", str(path)), None
    return ModelRef(type(source).__name__, "live", type(source).__qualname__), source


def is_model_proto(value: object) -> bool:
    """Whether ``value`` is an ``onnx.ModelProto``, asked without importing onnx."""
    return type(value).__name__ == "ModelProto" and hasattr(value, "SerializeToString")


def store_model(model: onnx.ModelProto, root: Path) -> Path:
    """Puts a live ``ModelProto`` into the cache, under its content's name."""
    import hashlib

    data = model.SerializeToString(deterministic=True)
    path = root / "models" / f"{hashlib.sha256(data).hexdigest()[:32]}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        part.write_bytes(data)
        part.replace(path)
    return path


def store_feeds(feeds: Sequence[Feed], root: Path) -> Path:
    """Puts feeds into the cache, under their content's name."""
    folder = root / "feeds" / feeds_digest(feeds)[:32]
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
        save_feeds(part, feeds)
        try:
            part.rename(folder)
        except OSError:  # another process stored the same
            shutil.rmtree(part)
    return folder


def declared_inputs(request: Request, target: Artifact | None) -> tuple[TensorSpec, ...] | None:
    """The inputs as the user's files, ``--shape`` or the target declare them; ``None`` when nobody does."""
    if target is not None:
        ranges = inputs_.index_ranges(onnx_file.load(target.path))
        specs = tuple(replace(s, range=s.range or ranges.get(s.name)) for s in target.info.inputs)
        return inputs_.with_shapes(specs, request.shapes or {})
    if request.feeds:
        return tuple(TensorSpec(n, str(a.dtype), tuple(a.shape)) for n, a in request.feeds[0].items())
    if request.shapes:
        return tuple(TensorSpec(name or "#0", "float32", shape) for name, shape in request.shapes.items())
    return None


def native_job(
    ref: ModelRef, request: Request, *, declared: tuple[TensorSpec, ...] | None, forms: Sequence[ExportForm],
    dynamic_batch: bool | None, execute: bool, root: Path,
) -> JobSpec:  # fmt: skip
    """The job that loads, exports and runs a framework's model."""
    reads: dict[str, Path] = {}
    if ref.zoo == "file":
        reads["model"] = Path(ref.name)
    if ref.module.endswith(".py"):
        reads["module"] = Path(ref.module)
    if ref.weights not in ("", "seeded", "pretrained"):
        reads["weights"] = Path(ref.weights)
    if request.feeds:
        reads["feeds"] = store_feeds(request.feeds, root)
    params = {
        "ref": ref_to_record(ref),
        "converter": zoo.converter_for(ref),
        "inputs": None if declared is None else [spec_to_record(s) for s in declared],
        "seed": request.seed,
        "batches": list(request.batches),
        "trust": request.trust,
        "forms": [f.value for f in forms],
        "opset": request.opset,
        "dynamic_batch": dynamic_batch,
        "execute": execute,
    }
    return JobSpec("native", "native", params, reads)


def run_native(jobs: Jobs, ref: ModelRef, spec: JobSpec, live: object | None) -> NativeSide:
    """Runs the native job in its own process, or here when the model is a live object."""
    if live is None:
        zoo.require_framework(ref)
        result = jobs.start(spec).result()
    else:
        result = jobs.run_inline(spec, {"model": live})
    exports = tuple(export_from_record(e, result.out) for e in result.data["exports"])
    return NativeSide(ref, result, tuple(spec_from_record(s) for s in result.data["inputs"]), exports)


def onnx_feeds(artifact: Artifact, request: Request) -> list[dict[str, Array]]:
    """Feeds for an ONNX source: the user's, checked, or generated ones."""
    if request.feeds:
        return [inputs_.check_feed(feed, artifact.info.inputs) for feed in request.feeds]
    specs = declared_inputs(request, artifact) or ()
    return inputs_.generate(specs, seed=request.seed, batches=request.batches, dynamic_batch=has_dynamic_batch(specs))


def has_dynamic_batch(specs: Sequence[TensorSpec]) -> bool:
    """Whether the first axis of some input may vary."""
    return any(bool(s.shape) and isinstance(s.shape[0], str) for s in specs if s.shape is not None)


def open_artifact(target: object, root: Path) -> Artifact:
    """The artifact that the user brought: a path or a live ``ModelProto``."""
    if isinstance(target, (str, os.PathLike)):
        ref = zoo.parse(os.fspath(target))
        if ref.zoo != "file" or zoo.converter_for(ref) != "onnx":
            raise UsageError(f"the target {ref.text} is no ONNX file", hint="give an .onnx file as the second argument")
        path = Path(ref.name)
    elif is_model_proto(target):
        path = store_model(cast("onnx.ModelProto", target), root)
    else:
        raise UsageError(f"a target cannot be a {type(target).__name__}", hint="give a path or an onnx.ModelProto")
    return Artifact(path, onnx_file.inspect(path))
