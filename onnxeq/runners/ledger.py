"""The ledger as jobs: beside a loaded model, from files, and the native weights put back for the referee."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.graph.inspect import load
from onnxeq.inputs import adapt
from onnxeq.referee import Executor
from onnxeq.runners import referee
from onnxeq.types import Array
from onnxeq.weights import match, native_of, transplant
from onnxeq.weights.document import to_record
from onnxeq.weights.transplant import with_values
from onnxeq.worker import Job

__all__ = ["beside", "put_back", "run"]


def run(job: Job) -> dict[str, Any]:
    """The ledger of ``job.inputs['model']``.

    The native tensors are those of ``weights`` (a folder as ``native-weights`` writes it) or the constants of
    ``source`` (an ONNX file, which then is the reference, too); ``reference`` is an unfolded export. With
    ``params['transplant']`` it also writes ``out/transplanted.onnx``.

    Raises:
        onnxeq.errors.UnusableModel: A file cannot be read.
    """
    job.step("load")
    model = load(job.inputs["model"])
    reference = _optional(job, "reference")
    if "weights" in job.inputs:
        native: Mapping[str, Array] = load_feeds(job.inputs["weights"])[0]
    else:
        reference = load(job.inputs["source"])
        native = native_of(reference)
    return _write(job, native, model, reference)


def beside(job: Job) -> dict[str, Any]:
    """The same for the model that an earlier job of this process has loaded: its weights need not be written.

    Raises:
        onnxeq.errors.OnnxeqError: What the converter says, or a file that cannot be read.
    """
    from onnxeq.runners import native as native_runner

    native = native_runner.loaded_model(job).weights()
    job.step("load")
    return _write(job, native, load(job.inputs["model"]), _optional(job, "reference"))


def _optional(job: Job, name: str) -> onnx.ModelProto | None:
    return load(job.inputs[name]) if name in job.inputs else None


def _write(
    job: Job, native: Mapping[str, Array], model: onnx.ModelProto, reference: onnx.ModelProto | None
) -> dict[str, Any]:
    job.step("match")
    ledger = match(native, model, reference=reference)
    expected = {e.initializer: e.expected for e in ledger.near_misses if e.expected is not None}
    save_feeds(job.out / "expected", [expected])
    if job.params.get("transplant"):
        from onnxeq.graph.files import write

        job.step("transplant")
        write(transplant(model, ledger, native), job.out / "transplanted.onnx")
    return {"ledger": to_record(ledger)}


def put_back(job: Job) -> dict[str, Any]:
    """Runs ``job.inputs['model']`` in float64 with native tensors put back.

    ``expected`` is the folder of what they give, by initializer. Writes the trace with all of
    ``params['initializers']`` put back into ``out/all`` and, for the first ``params['singly']`` of them, the first
    feed's trace with this one put back into ``out/0``, ``out/1``, ...

    Raises:
        onnxeq.errors.UnsupportedOperator: Naming every operator that has no validated float64 semantics.
    """
    job.step("load")
    path, names = job.inputs["model"], list(job.params["initializers"])
    model = load(path)
    values = load_feeds(job.inputs["expected"])[0]
    feeds = [{job.params["names"].get(k, k): v for k, v in feed.items()} for feed in load_feeds(job.inputs["feeds"])]
    chosen = names[: int(job.params["singly"])]
    for folder, wanted in [("all", names), *((str(i), [name]) for i, name in enumerate(chosen))]:
        job.step(f"run with {len(wanted)} put back")
        executor = Executor(with_values(model, {n: values[n] for n in wanted}), base_dir=Path(path).parent)
        dtypes = {s.name: s.dtype for s in executor.inputs}
        count = len(feeds) if folder == "all" else 1
        save_feeds(job.out / folder, [referee.run_once(executor, adapt(feed, dtypes)) for feed in feeds[:count]])
    return {"singly": chosen}
