"""A runtime as a job: whatever satisfies :class:`onnxeq.protocols.Runner` runs a model file on every feed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from onnxeq.arrays import dtype_name, load_feeds, save_feeds
from onnxeq.batches import choose_rows, leading_sizes, take
from onnxeq.errors import CannotRun, OnnxeqError, UsageError
from onnxeq.graph.files import read
from onnxeq.graph.skim import skim
from onnxeq.inputs import adapt
from onnxeq.memory import check_trace
from onnxeq.protocols import Runner, Session, SessionOptions
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

__all__ = ["feeds_of", "fitted", "flatten", "load_runner", "options_of", "outputs_of", "run", "runner_of"]


def run(job: Job) -> dict[str, Any]:
    """Runs ``job.inputs['model']`` on every feed and writes the trace ``out/trace``.

    Parameters: ``runner`` (see :meth:`onnxeq.runtimes.Runtime.params`; onnxruntime when absent), ``provider`` (``cpu``
    or ``cuda``), ``optimize``, ``tf32``, ``names`` (feed name -> ONNX input name), ``repeats`` (also the traces
    ``repeat``: the same session again, ``threads``: a new one with a single thread, ``session``: a new one as it was,
    ``batch``: items of one feed in another batch).

    Returns:
        ``versions``, ``outputs``, and ``no_plain``: why the runtime has no mode without graph optimisations. When
        that is what was asked for, nothing has been run. Also ``stopped``: why the trace ends before the feeds do, and
        ``other_batch``: the ``feed`` and the ``rows`` of the trace ``batch``, empty where nothing is plainly a batch.

    Raises:
        CannotRun: The provider is not to be had here, or the runtime refuses the model.
    """
    runner = runner_of(job)
    no_plain = str(getattr(runner, "NO_PLAIN", ""))
    options = options_of(job.params)
    if no_plain and not options.optimize:
        return {"versions": dict(runner.versions()), "no_plain": no_plain, "outputs": []}
    model = job.inputs["model"]
    feeds = feeds_of(job)
    job.step("load")
    session = runner.open(model, options)
    job.step("run")
    trace, stopped = _as_far_as_it_runs(session, feeds)
    save_feeds(job.out / "trace", trace)
    other: dict[str, Any] = {}
    if job.params.get("repeats"):
        job.step("repeat")
        save_feeds(job.out / "repeat", [outputs_of(session, feeds[0])])
        other = _other_batch(job, session, feeds[: len(trace)])
        del session
        alone = runner.open(model, replace(options, threads=1))
        single = outputs_of(alone, feeds[0])
        del alone
        save_feeds(job.out / "threads", [single])
        # A new session of one thread that gives the same bits shows that neither matters.
        same = all(trace[0][k].tobytes() == v.tobytes() for k, v in single.items() if v.dtype != object)
        again = single if same else outputs_of(runner.open(model, options), feeds[0])
        save_feeds(job.out / "session", [again])
    return {
        "versions": dict(runner.versions()),
        "no_plain": no_plain,
        "stopped": stopped,
        "other_batch": other,
        "outputs": [{"name": n, "dtype": dtype_name(a), "shape": list(a.shape)} for n, a in trace[0].items()],
    }


def _as_far_as_it_runs(session: Session, feeds: Sequence[Feed]) -> tuple[list[dict[str, Array]], str]:
    """The outputs up to the first feed that fails, and why it does; a failure on the very first is raised.

    A model that runs at one size and not at another tells more than one that never ran.
    """
    trace: list[dict[str, Array]] = []
    for feed in feeds:
        try:
            made = outputs_of(session, feed)
        except CannotRun as error:
            if not trace:
                raise
            return trace, error.line()
        check_trace((array.nbytes for array in made.values()), len(feeds))
        trace.append(made)
    return trace, ""


def _other_batch(job: Job, session: Session, feeds: Sequence[Feed]) -> dict[str, Any]:
    """Runs some items of one feed as a batch of their own and writes the trace ``batch``."""
    leading = leading_sizes(read(job.inputs["model"]))
    chosen = choose_rows(feeds, leading)
    if chosen is None:
        return {}
    index, rows = chosen
    try:
        save_feeds(job.out / "batch", [outputs_of(session, take(feeds[index], leading, rows))])
    except CannotRun as error:
        return {"feed": index, "rows": list(rows), "error": error.line()}
    return {"feed": index, "rows": list(rows), "error": ""}


def options_of(params: Mapping[str, Any]) -> SessionOptions:
    """The session that a job's parameters ask for."""
    return SessionOptions(
        optimize=bool(params.get("optimize", True)),
        provider=str(params.get("provider", "cpu")),
        tf32=bool(params.get("tf32", False)),
        settings=dict(params.get("runner", {}).get("settings", {})),
    )


def feeds_of(job: Job) -> list[dict[str, Array]]:
    """The feeds under the model's own names, in the element types that it declares."""
    return fitted(job.inputs["model"], load_feeds(job.inputs["feeds"]), job.params["names"])


def fitted(model: Path, given: Sequence[Feed], names: Mapping[str, str]) -> list[dict[str, Array]]:
    """Feeds under a model's own names (``names``: feed name -> ONNX input name), in the element types it declares."""
    import onnx

    feeds = [{names.get(k, k): v for k, v in feed.items()} for feed in given]
    declared = {
        i.name: dtype_name(np.empty(0, onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)))
        for i in skim(model).model.graph.input
        if i.type.HasField("tensor_type") and i.type.tensor_type.elem_type
    }
    kinds = {name: "str" if kind == "object" else kind for name, kind in declared.items()}
    return [{**feed, **adapt(feed, kinds)} for feed in feeds]


def outputs_of(session: Session, feed: Feed) -> dict[str, Array]:
    """The outputs for one feed, sequences taken apart."""
    values = session.run(feed)
    return flatten(list(values), list(values.values()))


def flatten(names: Sequence[str], values: Sequence[Any]) -> dict[str, Array]:
    """Sequences become one output per element, ``name.0``, ``name.1``; absent optionals are left out."""
    flat: dict[str, Array] = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, (list, tuple)):
            flat |= {f"{name}.{i}": np.asarray(v) for i, v in enumerate(value)}
        elif value is not None:
            flat[name] = np.asarray(value)
    return flat


def runner_of(job: Job) -> Runner:
    """The runner that a job's parameters name; onnxruntime when they name none."""
    return load_runner(str(job.params.get("runner", {}).get("target", "onnxeq.runners.ort")), job.user_path)


@functools.lru_cache(maxsize=4)
def load_runner(target: str, user_path: tuple[str, ...] = ()) -> Runner:
    """Imports ``module``, ``module:object`` or ``FILE.py:object``.

    Raises:
        CannotRun: It cannot be imported, or lacks what a runner needs.
        UsageError: There is no such object.
    """
    name, _, item = target.partition(":")
    if name.endswith(".py"):
        sys.path[:0] = [p for p in (str(Path(name).parent),) if p not in sys.path]
    sys.path += [p for p in user_path if p not in sys.path]
    try:
        module: Any = _imported(name)
    except OnnxeqError:
        raise
    except Exception as error:  # whatever a third party's module raises is said with its name
        raise CannotRun(f"the runner {target} cannot be imported: {type(error).__name__}: {error}") from error
    runner = module
    for part in item.split(".") if item else ():
        runner = getattr(runner, part, None)
    if runner is None:
        raise UsageError(f"{name} has no '{item}'", hint="a runner is named NAME, module:object or FILE.py:object")
    if isinstance(runner, type):
        runner = runner()
    if lacking := [n for n in ("open", "versions") if not callable(getattr(runner, n, None))]:
        said = f"{target} is no runner: it has no {' and no '.join(lacking)}"
        raise CannotRun(said, hint="onnxeq.protocols.Runner says what it needs")
    return cast(Runner, runner)


def _imported(name: str) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(f"_onnxeq_runner_{Path(name).stem}", name)
    if spec is None or spec.loader is None:
        raise UsageError(f"{name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
