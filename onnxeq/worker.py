"""The process side of a job: reads ``job.json``, runs what its kind names, writes ``result.json`` or ``error.json``.

``python -m onnxeq.worker DIRECTORY`` is a replay: a person's command, which prints what happened.
``python -m onnxeq.worker --attached ROOT KIND [SUBJECT...]`` is what the host starts (:mod:`onnxeq.processes`): it
imports what jobs of that kind and about those subjects need, then takes directories from its standard input, and
ends when that closes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from onnxeq import errors, fingerprint

__all__ = ["KINDS", "Job", "execute", "main"]

KINDS = {
    "anchor": "onnxeq.runners.anchor:run",
    "architecture": "onnxeq.runners.architecture:run",
    "attribute": "onnxeq.runners.attribute:run",
    "blame": "onnxeq.runners.blame:run",
    "catalogue": "onnxeq.runners.native:catalogue",
    "function": "onnxeq.runners.function:run",
    "golden": "onnxeq.runners.golden:run",
    "golden-layers": "onnxeq.runners.golden_layers:run",
    "isolate": "onnxeq.runners.isolate:run",
    "latency": "onnxeq.runners.latency:run",
    "ledger": "onnxeq.runners.ledger:run",
    "native": "onnxeq.runners.native:prepare",
    "native-classes": "onnxeq.runners.datasets:classes",
    "native-export": "onnxeq.runners.native:export",
    "native-ledger": "onnxeq.runners.ledger:beside",
    "native-card": "onnxeq.runners.recipes:card",
    "native-kernels": "onnxeq.runners.native_layers:kernels",
    "native-latency": "onnxeq.runners.native_latency:run",
    "native-layers": "onnxeq.runners.native_layers:layers",
    "native-pictures": "onnxeq.runners.recipes:native",
    "native-repeat": "onnxeq.runners.native_again:repeat",
    "native-run": "onnxeq.runners.native:run",
    "native-sizes": "onnxeq.runners.native_again:sizes",
    "native-weights": "onnxeq.runners.native:weights",
    "normalize": "onnxeq.runners.normalizer:run",
    "onnx-zoo": "onnxeq.runners.onnx_zoo:fetch",
    "onnx-zoo-catalogue": "onnxeq.runners.onnx_zoo:catalogue",
    "ort": "onnxeq.runners.ort:run",
    "pictures": "onnxeq.runners.recipes:neutral",
    "predict": "onnxeq.runners.predicting:run",
    "put-back": "onnxeq.runners.ledger:put_back",
    "referee": "onnxeq.runners.referee:run",
    "runtime": "onnxeq.runners.runtime:run",
    "dataset": "onnxeq.runners.datasets:run",
    "diff": "onnxeq.runners.diffing:run",
    "trace": "onnxeq.runners.tracing:run",
    "trace-referee": "onnxeq.runners.tracing:referee",
    "taught": "onnxeq.runners.taught:run",
    "sizes": "onnxeq.runners.steadiness:run_sizes",
    "steadiness": "onnxeq.runners.steadiness:run",
}
"""What each kind of job runs: a function of a :class:`Job` that returns a JSON object."""


@dataclass(frozen=True)
class Job:
    """What a job function gets.

    Attributes:
        params: The JSON parameters of its :class:`onnxeq.jobs.JobSpec`.
        inputs: Absolute paths of what it may read.
        out: The folder that it writes into.
        step: Tells the host which step begins; a crash is reported with the last one.
        objects: Live objects, when the job runs in the caller's own process.
        shared: What an earlier job left in the same process; empty in a fresh one.
        user_path: Folders from which a user's modules may be imported.
    """

    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    out: Path
    step: Callable[[str], None]
    objects: Mapping[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    user_path: tuple[str, ...] = ()


def execute(
    folder: Path,
    *,
    objects: Mapping[str, Any] | None = None,
    shared: dict[str, Any] | None = None,
    listener: Callable[[str], None] | None = None,
) -> None:
    """Runs the job in ``folder`` and writes ``result.json``; see :class:`Job` for the other arguments.

    Raises:
        onnxeq.errors.OnnxeqError: What the job raised on purpose.
    """
    record = json.loads((folder / "job.json").read_text())
    (folder / "out").mkdir(exist_ok=True)
    current = {"step": "start"}

    def step(name: str) -> None:
        current["step"] = name
        with (folder / "steps.jsonl").open("a") as file:
            file.write(json.dumps({"step": name, "at": time.time()}) + "\n")
        if listener:
            listener(name)

    module, _, function = KINDS[record["kind"]].partition(":")
    job = Job(
        params=record["params"],
        inputs={name: Path(path) for name, path in record["inputs"].items()},
        out=folder / "out",
        step=step,
        objects=objects or {},
        shared={} if shared is None else shared,
        user_path=tuple(record["user_path"]),
    )
    try:
        data = getattr(importlib.import_module(module), function)(job)
    except errors.OnnxeqError as error:
        error.step = error.step or current["step"]
        raise
    result = {
        "data": data,
        "files": {
            str(p.relative_to(folder)): [p.stat().st_size, fingerprint.of_path(p)]
            for p in sorted((folder / "out").rglob("*"))
            if p.is_file()
        },
        "peak_bytes": _peak_bytes(),
        "seconds": 0.0,
    }
    _put(folder / "result.json", result)


def _put(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record that appears whole or not at all: the host looks for it."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(record))
    partial.replace(path)


def main(argv: list[str] | None = None) -> int:
    """Replays one job, or serves a host; the exit status is 0, or that of the job's error."""
    arguments = sys.argv[1:] if argv is None else argv
    faulthandler.enable()
    # The exporters make millions of objects that stay: at the default setting, looking through them again and
    # again takes a tenth of an export.
    gc.set_threshold(100_000, 20, 20)
    if arguments[0] == "--attached":
        _offer_first()
        _serve(arguments[2], arguments[3:])
    return _run(Path(arguments[0]), {}, lambda step: print(f"onnxeq: {step}", file=sys.stderr))  # noqa: T201 - a replay talks


def _offer_first() -> None:
    """Should the system run out of memory in spite of the host's watch, it shall end the job and not the host."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


def _serve(kind: str, subjects: Sequence[str]) -> NoReturn:
    """Does the jobs whose directories come in, one after another, until the host ends this process."""
    directories: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            directories.put(line.rstrip("\n"))
        os._exit(errors.EXIT_INTERRUPTED)

    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(Exception):  # the job itself will meet the same error and tell it
        module = importlib.import_module(KINDS[kind].partition(":")[0])
        getattr(module, "warm_up", lambda *_: None)(*subjects)
    shared: dict[str, Any] = {}
    while True:
        folder = Path(directories.get())
        with (folder / "log.txt").open("ab") as log:
            sys.stdout.flush()
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _run(folder, shared, None)


def _run(folder: Path, shared: dict[str, Any], listener: Callable[[str], None] | None) -> int:
    try:
        execute(folder, shared=shared, listener=listener)
    except errors.OnnxeqError as error:
        return _fail(folder, error)
    except MemoryError:
        peak = _peak_bytes() / 2**30
        return _fail(folder, errors.JobOutOfMemory(f"{_label(folder)}: out of memory (peak {peak:.1f} GiB)"))
    except Exception as unexpected:  # the boundary: whatever it is, the host must learn of it
        text = " ".join(f"{type(unexpected).__name__}: {unexpected}".split())[:300]
        return _fail(folder, errors.JobCrashed(f"{_label(folder)}: {text}"))
    return 0


def _fail(folder: Path, error: errors.OnnxeqError) -> int:
    traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    _put(folder / "error.json", errors.to_record(error))
    return error.exit_status


def _label(folder: Path) -> str:
    return str(json.loads((folder / "job.json").read_text())["label"])


def _peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    # Interpreter shutdown with several native runtimes loaded can crash after the result is safe.
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
