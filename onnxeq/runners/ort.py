"""onnxruntime on one provider with one optimisation setting. One job; the only importer of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxeq.arrays import dtype_name, load_feeds, save_feeds
from onnxeq.errors import CannotRun
from onnxeq.inputs import adapt
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

__all__ = ["cuda_device", "execute", "flatten", "run", "warm_up"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def warm_up() -> None:
    """Imports onnxruntime, while its process waits for a job."""
    import onnxruntime  # noqa: F401


def run(job: Job) -> dict[str, Any]:
    """Runs ``job.inputs['model']`` on every feed and writes the trace ``out/trace``.

    Parameters: ``provider`` (``cpu`` or ``cuda``), ``optimize``, ``tf32``, ``names`` (feed name -> ONNX
    input name), ``repeats`` (also the traces ``repeat``: the same session again, ``threads``: a new one with a
    single thread, ``session``: a new one as it was).

    Raises:
        CannotRun: The provider is not to be had here, or onnxruntime refuses the model.
    """
    import onnxruntime

    params = job.params
    names: Mapping[str, str] = params["names"]
    feeds = [{names.get(k, k): v for k, v in feed.items()} for feed in load_feeds(job.inputs["feeds"])]
    job.step("load")
    session = _session(job, onnxruntime)
    job.step("run")
    trace = [_outputs(session, feed) for feed in feeds]
    save_feeds(job.out / "trace", trace)
    if params.get("repeats"):
        job.step("repeat")
        save_feeds(job.out / "repeat", [_outputs(session, feeds[0])])
        single = _outputs(_session(job, onnxruntime, threads=1), feeds[0])
        save_feeds(job.out / "threads", [single])
        # A new session of one thread that gives the same bits shows that neither matters.
        same = all(trace[0][k].tobytes() == v.tobytes() for k, v in single.items() if v.dtype != object)
        again = single if same else _outputs(_session(job, onnxruntime), feeds[0])
        save_feeds(job.out / "session", [again])
    return {
        "providers": session.get_providers(),
        "device": onnxruntime.get_device(),
        "onnxruntime": onnxruntime.__version__,
        "outputs": [{"name": n, "dtype": dtype_name(a), "shape": list(a.shape)} for n, a in trace[0].items()],
    }


def execute(job: Job, feeds: Sequence[Feed]) -> list[dict[str, Array]]:
    """The outputs of ``job.inputs['model']`` for feeds under the model's own names; see :func:`run`."""
    import onnxruntime

    session = _session(job, onnxruntime)
    return [_outputs(session, feed) for feed in feeds]


def _session(job: Job, onnxruntime: Any, threads: int = 0) -> Any:
    params = job.params
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Other jobs share the cores: threads that wait shall sleep. It changes no number.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads:
        options.intra_op_num_threads = threads
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if params["optimize"] else level.ORT_DISABLE_ALL
    provider = _PROVIDERS[params["provider"]]
    providers: list[Any] = [provider]
    if params["provider"] == "cuda":
        _prepare_cuda(onnxruntime)
        providers = [(provider, {"use_tf32": int(params["tf32"])}), _PROVIDERS["cpu"]]
    try:
        session = onnxruntime.InferenceSession(str(job.inputs["model"]), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise CannotRun(f"onnxruntime refuses {job.inputs['model'].name}: {_one_line(error)}") from error
    if provider not in session.get_providers():
        raise CannotRun(f"{provider} did not start: onnxruntime fell back to {', '.join(session.get_providers())}")
    return session


def _prepare_cuda(onnxruntime: Any) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise CannotRun("this onnxruntime is built without CUDA", hint="pip install 'onnxeq[gpu]'")
    # The CUDA libraries may come with torch or from their own packages; without this the provider
    # loads only where the system's library path names them.
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()


def _outputs(session: Any, feed: Feed) -> dict[str, Array]:
    names = [o.name for o in session.get_outputs()]
    given = adapt(feed, {i.name: _dtype(i.type) for i in session.get_inputs()})
    try:
        values = session.run(names, given)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise CannotRun(f"onnxruntime fails on this model: {_one_line(error)}") from error
    return flatten(names, values)


def flatten(names: Sequence[str], values: Sequence[Any]) -> dict[str, Array]:
    """Sequences become one output per element, ``name.0``, ``name.1``; absent optionals are left out."""
    flat: dict[str, Array] = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, (list, tuple)):
            flat |= {f"{name}.{i}": np.asarray(v) for i, v in enumerate(value)}
        elif value is not None:
            flat[name] = np.asarray(value)
    return flat


def cuda_device() -> str:
    """The name of a CUDA device of this machine, or empty; asks the driver, loads no framework."""
    import shutil
    import subprocess

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        shown = subprocess.run(
            [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError):
        return ""
    return shown.stdout.strip().splitlines()[0] if shown.stdout.strip() else ""


_KINDS = {"float": "float32", "double": "float64", "string": "string"}


def _dtype(text: str) -> str:
    """``tensor(int64)`` -> ``int64``."""
    kind = text.removeprefix("tensor(").removesuffix(")")
    return _KINDS.get(kind, kind)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
