"""``onnxeq convert``: export and normalise, with provenance, into a file that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxeq import sides
from onnxeq.envs.environment import find
from onnxeq.errors import UsageError
from onnxeq.jobs import Jobs, JobSpec, Listener
from onnxeq.sides import Artifact, Request
from onnxeq.types import ExportForm, Feed
from onnxeq.zoo import converter_for

if TYPE_CHECKING:
    import onnx

__all__ = ["Converted", "convert", "normalize"]


@dataclass(frozen=True)
class Converted:
    """A written ONNX file."""

    path: Path
    nodes: int
    nodes_before: int
    opset: int
    sha256: str
    notes: tuple[str, ...] = ()


def convert(
    source: object,
    output: str | os.PathLike[str],
    *,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    opset: int | None = None,
    exporter: str = "",
    seed: int = 0,
    normalized: bool = True,
    overwrite: bool = False,
    timeout_s: float | None = None,
    trust: bool = False,
    env: str = "",
    listener: Listener | None = None,
) -> Converted:
    """Exports ``source`` to ``output``, normalised unless asked otherwise.

    Args:
        source: A model reference, a live model, or an ONNX file (which is then only normalised).
        output: The file to write.
        inputs: Feeds that tell the shapes, see :func:`onnxeq.check`.
        shapes: Input name -> shape.
        opset: Opset of the result.
        exporter: Which of the framework's exporters to use, see :func:`onnxeq.check`.
        seed: Seed of a factory's random weights.
        normalized: Whether the exporter's graph is normalised.
        overwrite: Whether an existing file may be replaced.
        timeout_s: Limit for each job in seconds.
        trust: Whether code stored in model files may run.
        env: The environment in which the framework runs.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: Something the caller can mend.
        onnxeq.errors.CannotRun: The exporter or the normaliser failed.
    """
    path = _target(output, overwrite)
    request = Request.of(inputs, shapes, seed=seed, opset=opset, trust=trust, exporter=exporter)
    with Jobs(timeout_s=timeout_s, listener=listener, environment=find(env) if env else None) as jobs:
        ref, live = sides.resolve(source, jobs)
        provenance: dict[str, Any] = {"onnxeq.source": ref.text}
        notes: tuple[str, ...] = ()
        if live is None and converter_for(ref) == "onnx":
            artifact = sides.open_artifact(ref.name, jobs.root)
        else:
            jobs.expect([("normalize", 0)] if normalized else [])
            native = sides.prepare_native(
                jobs, ref, live, request, declared=sides.declared_inputs(request, None), forms=(ExportForm.DEPLOYED,),
                feeds=False,
            )  # fmt: skip
            export = native.export(ExportForm.DEPLOYED)
            artifact, notes = sides.open_artifact(export.path, jobs.root), export.notes
            provenance |= {f"onnxeq.{k}": str(v) for k, v in native.job.data["provenance"].items()}
            opset = None  # the exporter has seen to it
        return _finish(jobs, artifact, path, opset, provenance, notes, normalized)


def normalize(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    opset: int | None = None,
    overwrite: bool = False,
    timeout_s: float | None = None,
    listener: Listener | None = None,
) -> Converted:
    """Normalises an ONNX file into ``output``; see :func:`convert` for the arguments and errors."""
    path = _target(output, overwrite)
    with Jobs(timeout_s=timeout_s, listener=listener) as jobs:
        return _finish(jobs, sides.open_artifact(model, jobs.root), path, opset, {}, (), True)


def _finish(
    jobs: Jobs, artifact: Artifact, path: Path, opset: int | None, provenance: Mapping[str, Any],
    notes: tuple[str, ...], normalized: bool,
) -> Converted:  # fmt: skip
    from onnxeq.graph.files import load, write
    from onnxeq.graph.inspect import inspect

    result = artifact.path
    if normalized or opset is not None:
        spec = JobSpec("normalize", "normalize", {"opset": opset}, {"model": artifact.path})
        done = jobs.start(spec).result()
        result = done.out / done.data["path"]
    model = load(result)
    _note(model, {"onnxeq.version": metadata.version("onnxeq"), **provenance})
    try:
        write(model, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="choose another -o") from error
    info = inspect(path)
    return Converted(path, info.nodes, artifact.info.nodes, int(info.opsets.get("ai.onnx", 0)), info.sha256, notes)


def _note(model: onnx.ModelProto, provenance: Mapping[str, Any]) -> None:
    for key, value in provenance.items():
        entry = next((e for e in model.metadata_props if e.key == key), None) or model.metadata_props.add(key=key)
        entry.value = str(value)


def _target(output: str | os.PathLike[str], overwrite: bool) -> Path:
    path = Path(output)
    if path.suffix != ".onnx":
        raise UsageError(f"the output {path} is no .onnx file", hint="write -o NAME.onnx")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", hint="choose another name, or replace it with --force")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="create it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the folder {path.parent} cannot be written", hint="choose another one")
    return path
