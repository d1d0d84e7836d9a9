"""What models give today: each framework and the runtime started once, however many goldens are asked about.

ONNX files run first, all in one process of the runtime; meanwhile the frameworks' models are loaded, exported and run,
one after another in one process for each framework, and what they export follows in the runtime's process. A job that
dies with its process is taken apart: each of its models is then run by itself, so that one model's crash is its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from onnxeq import errors, fingerprint, sides
from onnxeq.arrays import load_feeds
from onnxeq.errors import CannotRun, JobCrashed, JobKilled, JobTimeout, OnnxeqError, UsageError
from onnxeq.golden import condense
from onnxeq.golden import feeds as feeds_
from onnxeq.golden.codec import table_of
from onnxeq.golden.store import Stored
from onnxeq.golden.values import How, Inputs, InputsKind, Role
from onnxeq.inputs import index_ranges, with_shapes
from onnxeq.interface import pair_outputs
from onnxeq.jobs import JobResult, Jobs, JobSpec, Lane
from onnxeq.kept import store_feeds
from onnxeq.model_files import reads_of
from onnxeq.runtimes import Runtime, choose_runner
from onnxeq.sides import NativeSide, Request
from onnxeq.types import Array, ExportForm, Feed, ModelRef, TensorSpec
from onnxeq.zoo import converter_for

__all__ = ["RUNTIME_PACKAGES", "Opened", "Ran", "Subject", "Today", "check_provider", "run_all"]


@dataclass(frozen=True)
class Subject:
    """A model that is to be run.

    Attributes:
        name: Of its golden.
        source: A reference or a live model.
        how: How it is run.
        request: The same as :mod:`onnxeq.sides` takes it.
        files: Where the user's inputs come from.
        folder: Of the goldens.
        inputs: What it is fed with; ``None`` for a new golden.
        arrays: The golden's arrays, which may hold the inputs.
        expected: Digests of the outputs by execution; a trace with these is not brought back.
        known_onnx: The SHA-256 that the ONNX file had, with its opset and producer: such a file is not looked into.
    """

    name: str
    source: object
    how: How
    request: Request
    folder: Path
    files: tuple[Path, ...] = ()
    inputs: Inputs | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    expected: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    known_onnx: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True)
class Ran:
    """One execution.

    Attributes:
        role: What it is.
        name: As the ladder calls it.
        sha256: Digest of each output, feed by feed.
        keys: Feed and name of each output, in that order.
        trace: The outputs; empty when they were expected.
    """

    role: Role
    name: str
    sha256: tuple[str, ...]
    keys: tuple[tuple[int, str], ...]
    trace: tuple[Feed, ...] = ()


@dataclass(frozen=True)
class Today:
    """What one model gives today.

    Attributes:
        subject: Which.
        path: The ONNX file.
        names: Feed name -> ONNX input name.
        pairs: ONNX output name -> the source's.
        inputs: What it was fed with.
        kept: Arrays of the inputs to keep.
        feeds: Folder of the feeds, made when it is asked for.
        executions: By role.
        provenance: What made the outputs.
        native_sha256: The framework's digest of its weights.
        stored: Whether the source is an ONNX file.
        notes: What a reader must know.
    """

    subject: Subject
    path: Path
    names: Mapping[str, str]
    pairs: Mapping[str, str]
    inputs: Inputs
    kept: Mapping[str, Array]
    executions: Mapping[Role, Ran]
    provenance: Mapping[str, str]
    native_sha256: str
    stored: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """A golden that can be run."""

    stored: Stored
    subject: Subject


@dataclass(frozen=True)
class _Prepared:
    """A model that waits for the runtime."""

    subject: Subject
    path: Path
    names: Mapping[str, str]
    inputs: Inputs
    kept: Mapping[str, Array]
    runtime: Runtime
    native: NativeSide | None = None
    ran: tuple[Feed, ...] = ()
    feeds: Path | None = None
    opset: str = ""
    producer: str = ""
    notes: tuple[str, ...] = ()


_AHEAD = 8
"""ONNX files that are run while the others are still being looked for."""


def run_all(
    jobs: Jobs, subjects: Iterable[Subject], meanwhile: Callable[[], None] = lambda: None
) -> dict[str, Today | OnnxeqError]:
    """Runs every model; by name what it gave, or why it could not be run.

    Args:
        jobs: Where to run; they should look nothing up, since what is asked is what happens now.
        subjects: The models.
        meanwhile: Called once while models run.
    """
    found: dict[str, Today | OnnxeqError] = {}
    lanes: dict[str, Lane] = {}
    choose = functools.cache(choose_runner)  # it looks at everything that is installed
    native: list[tuple[Subject, ModelRef, object | None]] = []
    first: list[_Prepared] = []
    runtime_lane = lanes.setdefault("runtime", jobs.lane())
    batches: list[tuple[list[_Prepared], Future[JobResult] | None]] = []
    for subject in subjects:
        try:
            ref, live = sides.resolve(subject.source, jobs)
            if live is None and converter_for(ref) == "onnx":
                first.append(_prepare_onnx(jobs, subject, ref, choose))
                if len(first) == _AHEAD and not batches:
                    batches.append((first, _start(jobs, first, runtime_lane)))
                    first = []
            else:
                native.append((subject, ref, live))
        except OnnxeqError as error:
            found[subject.name] = error
    batches.append((first, _start(jobs, first, runtime_lane)))
    meanwhile()
    second: list[_Prepared] = []
    for subject, ref, live in native:
        converter = "live" if live is not None else converter_for(ref)
        try:
            lane = lanes.setdefault(converter, jobs.lane())
            second.append(_prepare_native(jobs, subject, ref, live, lane, choose))
        except OnnxeqError as error:
            found[subject.name] = error
    for batch, started in batches:
        found |= _gathered(jobs, batch, started)
    found |= _gathered(jobs, second, _start(jobs, second, runtime_lane))
    return found


_Choose: TypeAlias = Callable[[str], Runtime]


def _prepare_onnx(jobs: Jobs, subject: Subject, ref: ModelRef, choose: _Choose) -> _Prepared:
    path = Path(ref.name)
    runtime = choose(subject.how.runner)
    if subject.inputs is not None and subject.known_onnx[0] == fingerprint.of_path(path):
        _, opset, producer = subject.known_onnx  # it was examined when it was recorded
        return _Prepared(
            subject, path, {}, subject.inputs, {}, runtime, feeds=_stored(jobs, subject, subject.inputs),
            opset=opset, producer=producer,
        )  # fmt: skip
    artifact = sides.open_artifact(ref.name, jobs.root)
    info = artifact.info
    inputs, kept = subject.inputs, dict[str, Array]()
    if inputs is None:
        given = sides.onnx_feeds(artifact, subject.request, None)
        specs = sides.declared_inputs(replace(subject.request, feeds=(), shapes=None), artifact) or ()
        specs = info.inputs if subject.request.feeds else with_shapes(specs, subject.request.shapes or {})
        inputs, kept = _described(subject, given, specs, dynamic=sides.has_dynamic_batch(specs))
    return _Prepared(
        subject, path, {}, inputs, kept, runtime, feeds=_stored(jobs, subject, inputs, kept),
        opset=str(info.opsets.get("ai.onnx", "")), producer=info.producer,
    )  # fmt: skip


def _described(
    subject: Subject, feeds: Sequence[Feed], specs: Sequence[TensorSpec], *, dynamic: bool
) -> tuple[Inputs, dict[str, Array]]:
    request = subject.request
    return feeds_.described(
        feeds, specs, seed=request.seed, batches=request.batches, dynamic=dynamic, files=subject.files,
        folder=subject.folder,
    )  # fmt: skip


def _stored(jobs: Jobs, subject: Subject, inputs: Inputs, kept: Mapping[str, Array] | None = None) -> Path | None:
    """The folder of feeds that the runtime's process cannot make by itself."""
    if inputs.kind is InputsKind.SEED:
        return None
    return store_feeds(feeds_.of_golden(inputs, kept or subject.arrays, subject.folder), jobs.root)


def _prepare_native(
    jobs: Jobs, subject: Subject, ref: ModelRef, live: object | None, lane: Lane, choose: _Choose
) -> _Prepared:
    """Loads, exports and runs a framework's model."""
    request = subject.request
    native = sides.prepare_native(
        jobs, ref, live, request, declared=sides.declared_inputs(request, None), forms=(ExportForm.DEPLOYED,),
        lane=lane,
    )  # fmt: skip
    export = native.export(ExportForm.DEPLOYED)
    inputs, kept, folder = subject.inputs, dict[str, Array](), native.feeds
    if inputs is None:
        from onnxeq.graph.skim import skim

        ranges = index_ranges(skim(export.path).model)
        on_graph = dict(zip((s.name for s in native.inputs), export.input_names, strict=False))
        specs = [replace(s, range=s.range or ranges.get(on_graph.get(s.name, ""))) for s in native.inputs]
        inputs, kept = _described(subject, load_feeds(folder), specs, dynamic=export.dynamic_batch)
    else:
        folder = store_feeds(feeds_.of_golden(inputs, subject.arrays, subject.folder), jobs.root)
    ran = native.question("native-sizes", "native", {}, {"feeds": folder}).result()
    if failed := [text for text in ran.data["errors"] if text]:
        raise CannotRun(f"{ref.text} fails on its inputs: {failed[0]}")
    info = sides.open_artifact(export.path, jobs.root).info
    names = dict(zip((s.name for s in native.inputs), export.input_names, strict=False))
    return _Prepared(
        subject, export.path, names, inputs, kept, choose(subject.how.runner), native,
        tuple(load_feeds(ran.out / "f32")), folder, str(info.opsets.get("ai.onnx", "")), info.producer, export.notes,
    )  # fmt: skip


def _start(jobs: Jobs, prepared: Sequence[_Prepared], lane: Lane) -> Future[JobResult] | None:
    return jobs.start(_job(prepared, "runtime"), lane) if prepared else None


def _job(prepared: Sequence[_Prepared], label: str) -> JobSpec:
    reads: dict[str, Path] = {}
    for each in prepared:
        for key, path in reads_of(each.path).items():
            reads[f"{key} {each.subject.name}"] = path
        if each.feeds is not None:
            reads[f"feeds {each.subject.name}"] = each.feeds
    return JobSpec("golden", label, {"items": [_item(each) for each in prepared]}, reads, cache=False)


def _item(each: _Prepared) -> dict[str, Any]:
    return {
        "key": each.subject.name,
        "runner": each.runtime.params(),
        "provider": each.subject.how.provider,
        "tf32": each.subject.how.provider == "cuda",
        "names": dict(each.names),
        "inputs": {} if each.feeds is not None else table_of(each.inputs),
        "expected": list(each.subject.expected.get(Role.RUNTIME, ())),
    }


def _gathered(
    jobs: Jobs, prepared: Sequence[_Prepared], started: Future[JobResult] | None
) -> dict[str, Today | OnnxeqError]:
    if started is None:
        return {}
    try:
        done = started.result()
        return {p.subject.name: _today(jobs, p, row, done) for p, row in zip(prepared, done.data["items"], strict=True)}
    except (JobKilled, JobCrashed, JobTimeout) as error:
        if len(prepared) == 1:
            return {prepared[0].subject.name: error}
        said = "run by itself, since the process that ran all of them ended"
        found: dict[str, Today | OnnxeqError] = {}
        for each in prepared:
            alone = replace(each, notes=(*each.notes, said))
            found |= _gathered(jobs, [alone], jobs.start(_job([alone], f"runtime {each.subject.name}")))
        return found
    except OnnxeqError as error:
        return {p.subject.name: error for p in prepared}


def _today(jobs: Jobs, each: _Prepared, row: Mapping[str, Any], done: JobResult) -> Today | OnnxeqError:
    if "error" in row:
        return errors.from_record(row["error"])
    theirs = list(row["outputs"][0])
    pairs = {n: n for n in theirs} if each.native is None else pair_outputs(list(each.ran[0]), theirs)
    name = each.runtime.deployed if each.subject.how.provider == "cpu" else "ort/cuda"
    keys = tuple((i, pairs.get(n, n)) for i, outputs in enumerate(row["outputs"]) for n in outputs)
    folder = done.out / each.subject.name
    trace = (
        tuple({pairs.get(k, k): v for k, v in feed.items()} for feed in load_feeds(folder)) if folder.exists() else ()
    )
    executions = {Role.RUNTIME: Ran(Role.RUNTIME, name, tuple(row["sha256"]), keys, trace)}
    if each.native is not None:
        executions = {Role.NATIVE: _native_ran(each.ran)} | executions
    return Today(
        each.subject, each.path, each.names, pairs, each.inputs, each.kept, executions,
        _provenance(jobs, each, row["versions"]),
        "" if each.native is None else str(each.native.job.data["provenance"]["weights_sha256"]),
        each.native is None, each.notes,
    )  # fmt: skip


def _native_ran(trace: tuple[Feed, ...]) -> Ran:
    keys = tuple((i, name) for i, feed in enumerate(trace) for name in feed)
    return Ran(Role.NATIVE, "native/f32", tuple(condense.digest(trace[i][name]) for i, name in keys), keys, trace)


RUNTIME_PACKAGES = frozenset({"onnxruntime", "openvino"})
"""Packages of runtimes; what another runner says of its versions is noted behind ``runtime``."""

_LEFT_OUT = frozenset({"weights_sha256", "note"})


@functools.cache
def _own_version() -> str:
    return metadata.version("onnxeq")


def _provenance(jobs: Jobs, each: _Prepared, versions: Mapping[str, str]) -> dict[str, str]:
    from onnxeq.providers import choose_providers

    said = {} if each.native is None else each.native.job.data["provenance"]
    there = jobs.where("native")
    installed = fingerprint.versions() if there is None or each.native is None else there.versions()
    machine = fingerprint.machine()
    found = {key: str(value) for key, value in said.items() if key not in _LEFT_OUT and value}
    packages = ("onnx", "numpy", "python", *(("onnxscript",) if said.get("framework") == "torch" else ()))
    found |= {key: installed[key] for key in packages if key in installed}
    found |= {"opset": each.opset, "producer": each.producer, "runtime": each.runtime.name}
    found |= {key if key in RUNTIME_PACKAGES else f"runtime {key}": text for key, text in versions.items()}
    found |= {"provider": each.subject.how.provider, **machine, "onnxeq": _own_version()}
    if each.subject.how.provider == "cuda":
        found["device"] = next(p.device for p in choose_providers(None) if p.name == "cuda")
    return {key: value for key, value in found.items() if value}


def check_provider(name: str) -> str:
    """The provider, made sure that it is one.

    Raises:
        UsageError: It is none.
    """
    if name not in ("cpu", "cuda"):
        raise UsageError(f"'{name}' is no provider", hint="--provider takes cpu, cuda")
    return name
