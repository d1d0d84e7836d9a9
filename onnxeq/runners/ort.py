"""onnxruntime as a runner: one session with one optimisation setting on one provider; its only importer."""

from __future__ import annotations

import functools
import math
import mmap
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.errors import CannotRun
from onnxeq.protocols import SessionOptions

# The kind of job whose process imports onnxruntime while it waits, see ``onnxeq.worker``.
from onnxeq.runners.runtime import run as run
from onnxeq.types import Feed

__all__ = [
    "EXPERIMENTS",
    "block_size",
    "cuda_device",
    "levels",
    "open",
    "passes",
    "run",
    "save_optimized",
    "versions",
    "warm_up",
]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_LEVELS = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL")

EXPERIMENTS: Mapping[str, Mapping[str, Any]] = {
    "with one thread (intra_op_num_threads=1)": {"intra_op_num_threads": 1},
    "without the memory pattern (enable_mem_pattern=False)": {"enable_mem_pattern": False},
    "without reusing memory (enable_mem_reuse=False)": {"enable_mem_reuse": False},
    "without the memory arena (enable_cpu_mem_arena=False)": {"enable_cpu_mem_arena": False},
    "without TF32 (use_tf32=0)": {"cuda.use_tf32": 0},
    "with cuDNN's default algorithms (cudnn_conv_algo_search=DEFAULT)": {"cuda.cudnn_conv_algo_search": "DEFAULT"},
    "with cuDNN's heuristic choice (cudnn_conv_algo_search=HEURISTIC)": {"cuda.cudnn_conv_algo_search": "HEURISTIC"},
    "with small workspaces (cudnn_conv_use_max_workspace=0)": {"cuda.cudnn_conv_use_max_workspace": 0},
    "with NCHW (prefer_nhwc=0)": {"cuda.prefer_nhwc": 0},
}
"""What a fault may go away with, see :class:`onnxeq.protocols.Runner`; ``cuda.`` and a name is an option of CUDA's."""

_OWN = frozenset(key for settings in EXPERIMENTS.values() for key in settings if "." not in key)
"""Attributes of ``SessionOptions`` that may be set."""


def warm_up() -> None:
    """Imports onnxruntime, while its process waits for a job."""
    import onnxruntime  # noqa: F401


def versions() -> Mapping[str, str]:
    """The version of onnxruntime."""
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}


class _Session:
    """A session of onnxruntime under the names that a runner's has."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [o.name for o in session.get_outputs()]
        self._inputs = {i.name for i in session.get_inputs()}

    def run(self, feed: Feed) -> Mapping[str, Any]:
        given = {name: value for name, value in feed.items() if name in self._inputs}
        try:
            values = self._session.run(self._names, given)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise CannotRun(f"onnxruntime fails on this model: {_one_line(error)}") from error
        return dict(zip(self._names, values, strict=True))


def open(model: Path, options: SessionOptions) -> _Session:  # noqa: A001 - the protocol's name
    """A session for a model file; see :class:`onnxeq.protocols.Runner`.

    Settings: ``level`` (a key of :func:`levels`), ``disabled_passes`` (a list), the attributes of
    ``onnxruntime.SessionOptions`` that :data:`EXPERIMENTS` names, options of the CUDA provider (``cuda.`` and
    their name), and ``spinning``: threads wait as by default, which is faster where nothing else runs.
    """
    import onnxruntime

    return _Session(_session(onnxruntime, model, options, None))


def levels() -> Mapping[str, Mapping[str, Any]]:
    """The optimisation levels beyond none, the mildest first; older versions lack LAYOUT."""
    import onnxruntime

    return {name: {"level": name} for name in _LEVELS if hasattr(onnxruntime.GraphOptimizationLevel, name)}


def save_optimized(model: Path, options: SessionOptions, target: Path) -> _Session:
    """Writes the graph that onnxruntime makes of a model; see :class:`onnxeq.protocols.Runner`."""
    import onnxruntime

    return _Session(_session(onnxruntime, model, options, target))


def _session(onnxruntime: Any, model: Path, options: SessionOptions, save: Path | None) -> Any:
    asked = _session_options(onnxruntime, options)
    if save is not None:
        asked.optimized_model_filepath = str(save)
        # Its weights lie beside it, so that it can be looked at without them.
        asked.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", save.with_suffix(".bin").name
        )
    settings = options.settings
    provider = _PROVIDERS[options.provider]
    providers: list[Any] = [provider]
    if options.provider == "cuda":
        _prepare_cuda(onnxruntime)
        own = {key.removeprefix("cuda."): value for key, value in settings.items() if key.startswith("cuda.")}
        providers = [(provider, {"use_tf32": int(options.tf32), **own}), _PROVIDERS["cpu"]]
    disabled = list(settings.get("disabled_passes", ()))
    try:
        session = onnxruntime.InferenceSession(str(model), asked, providers=providers, disabled_optimizers=disabled)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise CannotRun(f"onnxruntime refuses {model.name}: {_one_line(error)}") from error
    if provider not in session.get_providers():
        raise CannotRun(f"{provider} did not start: onnxruntime fell back to {', '.join(session.get_providers())}")
    return session


def _session_options(onnxruntime: Any, options: SessionOptions) -> Any:
    asked = onnxruntime.SessionOptions()
    asked.log_severity_level = 3
    if not options.settings.get("spinning"):
        # Other jobs share the cores: threads that wait shall sleep. It changes no number.
        asked.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options.threads:
        asked.intra_op_num_threads = options.threads
    level = onnxruntime.GraphOptimizationLevel
    asked.graph_optimization_level = level.ORT_ENABLE_ALL if options.optimize else level.ORT_DISABLE_ALL
    for key, value in options.settings.items():
        if key == "level":
            asked.graph_optimization_level = getattr(level, value)
        elif key in _OWN:
            # What a user writes after the runner's name is text.
            setattr(asked, key, type(getattr(asked, key))(int(value) if str(value).isdigit() else value == "True"))
    return asked


def _prepare_cuda(onnxruntime: Any) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise CannotRun("this onnxruntime is built without CUDA", hint="pip install 'onnxeq[gpu]'")
    # The CUDA libraries may come with torch or from their own packages; without this the provider
    # loads only where the system's library path names them.
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()


@functools.cache
def block_size() -> int:
    """How many channels lie together in this machine's blocked tensors (``com.microsoft.nchwc``).

    Two pixels of many channels are brought into that order: the second pixel of the first channel then lies behind
    one block.
    """
    import onnxruntime
    from onnx import TensorProto, helper

    domain = "com.microsoft.nchwc"
    shape = [1, 128, 1, 2]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("ReorderInput", ["x"], ["y"], domain=domain)], "order",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)], ir_version=8,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _session_options(onnxruntime, SessionOptions()), providers=[_PROVIDERS["cpu"]]
    )
    counted = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    return int(np.flatnonzero(session.run(None, {"x": counted})[0].ravel() == 1)[0])


_ENDINGS = (
    rb"(?:Fusion|FusionL1|FusionL2|_Fusion|Elimination|Transformer|Optimizer|Folding|FoldingDQ|Sharing|Rewrite|Approximation"
    rb"|Dropout|Identity|Slice)"
)
_LITERAL = re.compile(rb"(?<=\0)[A-Z][A-Za-z0-9_]{2,50}" + _ENDINGS + rb"(?=\0)")
_CLASS = re.compile(rb"(?<=\0)N11onnxruntime\d+([A-Z][A-Za-z0-9_]{2,50}?" + _ENDINGS + rb")E(?=\0)")


@functools.cache
def passes() -> Sequence[str]:
    """The graph optimisations that the installed onnxruntime knows by name.

    It lists them nowhere, so the names are read from its own library: its strings, and the names of its classes for
    those that the compiler has put into the code. A name that is no pass does no harm: disabling it does nothing.
    """
    import onnxruntime

    found: set[bytes] = set()
    for path in sorted(Path(onnxruntime.__file__).parent.glob("capi/onnxruntime_pybind11_state*")):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library:
            found.update(_LITERAL.findall(library))
            found.update(_CLASS.findall(library))
    return tuple(sorted(name.decode() for name in found))


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
