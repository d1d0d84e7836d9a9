"""The native side of a check: load in the framework, export, run in float32 and float64.

Two jobs of one process: what runs the export needs to wait for the first only.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from onnxeq import inputs as inputs_
from onnxeq.arrays import dtype_name, load_feeds, save_feeds
from onnxeq.errors import BadInputs, CannotRun, FrameworkMissing, OnnxeqError, UnknownZoo, UsageError
from onnxeq.protocols import Converter, LoadRequest, Native, Progress
from onnxeq.records import export_to_record, ref_from_record, spec_from_record, spec_to_record
from onnxeq.types import Array, Export, ExportForm, Feed, ModelRef, Precision, TensorSpec, ValueRange
from onnxeq.worker import Job
from onnxeq.zoo import installed_converters

__all__ = [
    "catalogue",
    "error_text",
    "export",
    "load_converter",
    "loaded_model",
    "prepare",
    "request_of",
    "run",
    "seed_libraries",
    "the_models_own_errors",
    "warm_up",
    "weights",
]


def warm_up(converter: str = "", zoo: str = "") -> None:
    """Has a converter import what models of a zoo need, while its process waits for a job."""
    if converter:
        getattr(load_converter(converter), "warm_up", lambda _zoo: None)(zoo)


def prepare(job: Job) -> dict[str, Any]:
    """Loads the model, exports it when forms are asked for, and settles what it is fed with.

    Writes the exports and, with ``batches`` set, ``feeds`` into ``job.out``, and leaves the loaded model to the
    :func:`run` that follows in the same process.

    Raises:
        onnxeq.errors.OnnxeqError: What the converter says, or inputs that do not fit.
    """
    params = job.params
    with the_models_own_errors():
        steps = _Steps(job.step)
        native, example = _load(job, steps)
        job.shared[_LOADED] = _Loaded(params["load"], native, steps)
        exports: tuple[Export, ...] = ()
        if forms := tuple(ExportForm(f) for f in params["forms"]):
            job.step("export")
            exports = native.export(job.out, forms, params["opset"])
        batches: list[int] = []
        if params["batches"]:
            job.step("inputs")
            feeds = _feeds(job, native, exports, example)
            save_feeds(job.out / "feeds", feeds)
            batches = [inputs_.batch_size(feed) for feed in feeds]
        return {
            "provenance": dict(native.provenance),
            "exports": [export_to_record(e, job.out) for e in exports],
            "inputs": [spec_to_record(s) for s in native.signature.inputs],
            "batches": batches,
        }


def run(job: Job) -> dict[str, Any]:
    """Runs the model on ``job.inputs['feeds']`` in float32 and float64.

    Writes the traces ``f32``, ``f64`` (unless the framework has no float64), ``f32-repeat`` and, where the framework
    takes a shortcut in inference mode, ``f32-plain`` into ``job.out``.

    Raises:
        onnxeq.errors.OnnxeqError: What the converter says, or a model that is another one at every loading.
    """
    with the_models_own_errors():
        return _execute(job, loaded_model(job), load_feeds(job.inputs["feeds"]))


def export(job: Job) -> dict[str, Any]:
    """Exports the model that an earlier job has loaded in the forms ``job.params['forms']``.

    Raises:
        onnxeq.errors.OnnxeqError: What the converter says, or a model that is another one at every loading.
    """
    with the_models_own_errors():
        native = loaded_model(job)
        job.step("export")
        forms = tuple(ExportForm(f) for f in job.params["forms"])
        return {"exports": [export_to_record(e, job.out) for e in native.export(job.out, forms, job.params["opset"])]}


def weights(job: Job) -> dict[str, Any]:
    """Writes every parameter and buffer, as one feed, into ``out/weights``.

    Raises:
        onnxeq.errors.OnnxeqError: What the converter says, or a model that is another one at every loading.
    """
    with the_models_own_errors():
        held = loaded_model(job).weights()
        job.step("write")
        save_feeds(job.out / "weights", [held])
        return {"count": len(held)}


_LOADED = "native"


def loaded_model(job: Job) -> Native:
    """The model that an earlier job of this process left, or the same one loaded again."""
    loaded: _Loaded | None = job.shared.get(_LOADED)
    if loaded is not None and loaded.params == job.params["load"]:
        loaded.steps.tell = job.step
        return loaded.native
    steps = _Steps(job.step)
    native, _ = _load(job, steps)
    if native.provenance["weights_sha256"] != job.params["weights_sha256"]:
        hint = "seed what it draws, or save the model to a file and check that"
        raise CannotRun("the model has other weights each time that it is loaded", hint=hint)
    job.shared[_LOADED] = _Loaded(job.params["load"], native, steps)
    return native


class _Steps:
    """Tells the steps of whichever job runs: a model outlives the job that loaded it."""

    def __init__(self, tell: Progress) -> None:
        self.tell = tell

    def __call__(self, step: str) -> None:
        self.tell(step)


@dataclass(frozen=True)
class _Loaded:
    """A model that waits for the next job of its process; ``params`` say what it is."""

    params: Mapping[str, Any]
    native: Native
    steps: _Steps


def _execute(job: Job, native: Native, feeds: Sequence[Feed]) -> dict[str, Any]:
    job.step("run native/f32")
    single = [native.run(feed, Precision.F32) for feed in feeds]
    again = [native.run(feeds[0], Precision.F32)]
    save_feeds(job.out / "f32", single)
    save_feeds(job.out / "f32-repeat", again)
    if native.shortcut:
        save_feeds(job.out / "f32-plain", [native.run(feed, Precision.F32_PLAIN) for feed in feeds])
    double_error = native.no_float64
    try:
        if not native.no_float64:
            job.step("run native/f64")
            save_feeds(job.out / "f64", [native.run(feed, Precision.F64) for feed in feeds])
    except OnnxeqError as error:
        # Without float64 the float32 rungs still tell something; the ladder says what is missing.
        double_error = error.line()
    outputs = [{"name": n, "dtype": dtype_name(a), "shape": list(a.shape)} for n, a in single[0].items()]
    return {
        "outputs": outputs,
        "f64_error": double_error,
        "no_float64": native.no_float64,
        "shortcut": native.shortcut,
    }


def request_of(params: Mapping[str, Any]) -> LoadRequest:
    """What to load, from a job's parameters."""
    specs = None if params["inputs"] is None else tuple(spec_from_record(s) for s in params["inputs"])
    ref, exporter = ref_from_record(params["ref"]), str(params.get("exporter", ""))
    return LoadRequest(ref, specs, int(params["seed"]), bool(params["trust"]), int(params["threads"]), exporter)


def _load(job: Job, progress: Progress) -> tuple[Native, list[Feed]]:
    progress("load")
    params = job.params["load"]
    request = request_of(params)
    ref, specs = request.ref, request.inputs
    if "model" in job.objects:
        model = job.objects["model"]
        return _owner(model).wrap(model, request, progress), []
    if ref.zoo != "factory":
        return load_converter(params["converter"]).load(request, progress), []
    module = _user_module(ref, job.user_path)
    factory = getattr(module, ref.name, None)
    if not callable(factory):
        names = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
        raise UsageError(f"{ref.module} has no function '{ref.name}'", hint=f"it has: {', '.join(names) or 'none'}")
    seed_libraries(request.seed)
    try:
        model = factory()
    except TypeError as error:
        raise UsageError(f"{ref.text}: {error}", hint="a factory takes no arguments") from error
    except Exception as error:
        raise UsageError(
            f"{ref.text} raised {error_text(error)}", hint="call it in Python to see the traceback"
        ) from error
    example: list[Feed] = []
    if specs is None and callable(maker := getattr(module, "example_inputs", None)):
        example = [_example_feed(maker(ref.name))]
        specs = _specs_of(example[0])
        request = replace(request, inputs=specs)
    return _owner(model).wrap(model, request, progress), example


def _feeds(job: Job, native: Native, exports: tuple[Export, ...], example: list[Feed]) -> list[dict[str, Array]]:
    specs = native.signature.inputs
    if "feeds" in job.inputs:
        return [inputs_.check_feed(feed, specs) for feed in load_feeds(job.inputs["feeds"])]
    dynamic = job.params["dynamic_batch"]
    if dynamic is None:
        dynamic = bool(exports) and all(e.dynamic_batch for e in exports)
    if exports:
        specs = _with_index_ranges(specs, exports[0])
    given = [inputs_.check_feed({_rename(k, specs): v for k, v in feed.items()}, specs) for feed in example]
    made = inputs_.generate(
        specs, seed=job.params["load"]["seed"], batches=job.params["batches"], dynamic_batch=dynamic
    )
    return given + made


def _with_index_ranges(specs: tuple[TensorSpec, ...], export: Export) -> tuple[TensorSpec, ...]:
    """Integer inputs that index a table may only reach its rows."""
    if all(np.dtype(s.dtype).kind not in "iu" or s.range for s in specs if s.dtype in np.sctypeDict):
        return specs
    import onnx

    ranges = inputs_.index_ranges(onnx.load(str(export.path), load_external_data=False))
    by_native = dict(zip((s.name for s in specs), export.input_names, strict=False))
    return tuple(TensorSpec(s.name, s.dtype, s.shape, s.range or ranges.get(by_native.get(s.name, ""))) for s in specs)


def _rename(name: str, specs: tuple[TensorSpec, ...]) -> str:
    return specs[int(name[1:])].name if name.startswith("#") and int(name[1:]) < len(specs) else name


def _example_feed(value: object) -> Feed:
    if isinstance(value, Mapping):
        items = {str(k): v for k, v in value.items()}
    elif isinstance(value, (tuple, list)):
        items = {f"#{i}": v for i, v in enumerate(value)}
    else:
        items = {"#0": value}
    feed = {}
    for name, item in items.items():
        array = np.asarray(item.detach().cpu() if hasattr(item, "detach") else item)
        if array.dtype == object:
            raise BadInputs(
                f"example_inputs gives a {type(item).__name__} for input {name}",
                hint="return arrays or tensors",
            )
        feed[name] = array
    return feed


def _specs_of(feed: Feed) -> tuple[TensorSpec, ...]:
    specs = []
    for name, array in feed.items():
        span = None
        if array.dtype.kind in "iu" and array.size:
            span = ValueRange(float(array.min()), float(array.max()) + 1)
        specs.append(TensorSpec(name, dtype_name(array), tuple(array.shape), span))
    return tuple(specs)


_EXTRAS = {
    "torch": "torch",
    "torchvision": "torch",
    "timm": "timm",
    "transformers": "hf",
    "tensorflow": "keras",
    "keras": "keras",
}


def _user_module(ref: ModelRef, user_path: tuple[str, ...]) -> ModuleType:
    # At the end of the path: a user's folder named like a framework must not shadow it.
    folder = [str(Path(ref.module).parent)] if ref.module.endswith(".py") else []
    sys.path += [p for p in (*folder, *user_path) if p not in sys.path]
    try:
        if not ref.module.endswith(".py"):
            return importlib.import_module(ref.module)
        spec = importlib.util.spec_from_file_location(f"_onnxeq_user_{Path(ref.module).stem}", ref.module)
        if spec is None or spec.loader is None:
            raise UsageError(f"{ref.module} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except OnnxeqError:
        raise
    except Exception as error:
        hint = "run it with python to see the traceback"
        if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
            hint = f"pip install 'onnxeq[{_EXTRAS[error.name]}]'"
            raise FrameworkMissing(
                f"{ref.module} imports {error.name}, which is not installed here", hint=hint
            ) from error
        raise UsageError(f"importing {ref.module} raised {error_text(error)}", hint=hint) from error
    return module


def error_text(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@contextlib.contextmanager
def the_models_own_errors() -> Iterator[None]:
    """An exception that came through the model's own ``forward`` or ``call`` is the user's to mend."""
    try:
        yield
    except (OnnxeqError, MemoryError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not any(frame.name in ("forward", "call") for frame in frames):
            raise
        hint = "give inputs that it takes: --shape NAME=..., --inputs FILE.npz, or example_inputs beside the factory"
        raise BadInputs(f"the model itself raises on these inputs: {error_text(error)}", hint=hint) from error


def seed_libraries(seed: int) -> None:
    """A factory that draws its weights draws the same ones in every process."""
    import random

    random.seed(seed)
    np.random.seed(seed)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
    if (keras := sys.modules.get("keras")) is not None:
        keras.utils.set_random_seed(seed)


def load_converter(name: str) -> Converter:
    """The converter behind an entry point.

    Raises:
        UnknownZoo: No installed package offers it.
        CannotRun: It is installed and cannot be imported.
    """
    target = installed_converters().get(name)
    if target is None:
        raise UnknownZoo(f"no installed package offers a converter '{name}'", hint="onnxeq doctor lists the converters")
    module, _, item = target.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise CannotRun(f"the converter '{name}' ({target}) cannot be imported: {error}") from error
    return cast(Converter, getattr(found, item) if item else found)


def _owner(model: object) -> Converter:
    names = sorted(installed_converters())
    for name in names:
        converter = load_converter(name)
        if converter.owns(model):
            return converter
    raise UsageError(
        f"a {type(model).__module__}.{type(model).__qualname__} is no model that a converter knows "
        f"({', '.join(names)})",
        hint="return an nn.Module or a keras.Model",
    )


def catalogue(job: Job) -> dict[str, Any]:
    """The models of one zoo, for ``onnxeq zoo list``."""
    job.step("list")
    entries = load_converter(job.params["converter"]).catalogue(job.params["zoo"])
    return {
        "entries": [
            {
                "name": e.name,
                "family": e.family,
                "inputs": [spec_to_record(s) for s in e.inputs],
                "note": e.note,
            }
            for e in entries
        ]
    }
