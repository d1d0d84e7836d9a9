"""TensorFlow and Keras cases: an expression as a model, run natively and through tf2onnx."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from operator_cases import Case

from onnxeq.errors import OnnxeqError
from onnxeq.protocols import LoadRequest
from onnxeq.types import Array, ExportForm, ModelRef, Precision, TensorSpec
from onnxeq_converters import from_keras
from onnxeq_converters.from_keras.framework import framework
from onnxeq_converters.from_tensorflow.framework import require
from operator_trials.feeds import feed as make_feed
from operator_trials.judge import Native, judge
from operator_trials.results import Result

__all__ = ["try_case", "trying"]


def _model(case: Case, names: Sequence[str]) -> Any:
    """A subclassed model that computes the expression; what the setup made are its layers."""
    tf, keras = framework().tf, framework().keras
    keras.utils.set_random_seed(3)
    known: dict[str, Any] = {"tf": tf, "keras": keras, "L": keras.layers, "np": np}
    exec(case.setup, known)  # noqa: S102 - the cases are this project's own

    class Expression(keras.Model):  # type: ignore[misc]  # keras is untyped here
        def __init__(self) -> None:
            super().__init__(name="case")
            for name, value in known.items():
                if isinstance(value, keras.layers.Layer):
                    setattr(self, f"held_{name}", value)

        def call(self, *tensors: Any) -> Any:
            given = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
            return eval(case.expression, known | dict(zip(names, given, strict=True)))  # noqa: S307 - as above

    return Expression()


def try_case(case: Case) -> Iterator[Result]:
    """Every group of feeds through tf2onnx."""
    groups: dict[str, list[tuple[str, dict[str, Array]]]] = {}
    for text in case.feeds:
        made = make_feed(text)
        groups.setdefault(str([(n, a.dtype, a.shape) for n, a in made.items()]), []).append((text, made))
    for group in groups.values():
        yield _try_group(case, group)
        framework().keras.backend.clear_session()


def _try_group(case: Case, group: Sequence[tuple[str, dict[str, Array]]]) -> Result:
    feeds = [made for _, made in group]
    repro = f"{case.setup + '; ' if case.setup else ''}{case.expression}  # {' ; '.join(text for text, _ in group)}"
    base = Result(case.label, "tf2onnx", repro)
    specs = tuple(TensorSpec(n, str(a.dtype), a.shape) for n, a in feeds[0].items())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as root:
        warnings.simplefilter("ignore")
        try:
            request = LoadRequest(ModelRef("case", "live", "case"), specs)
            native = from_keras.wrap(_model(case, [s.name for s in specs]), request, lambda _step: None)
            single = [native.run(feed, Precision.F32) for feed in feeds]
        except Exception as error:  # a case of ours that is wrong is to be seen, and not to stop the others
            return base.with_(native_error=_line(error))
        try:
            double, why_not = [native.run(feed, Precision.F64) for feed in feeds], ""
        except (OnnxeqError, ValueError, TypeError) as error:
            double, why_not = [], f"native/f64: {_line(error)}"
        try:
            done = native.export(Path(root), (ExportForm.UNFOLDED, ExportForm.DEPLOYED), None)
        except Exception as error:  # an exporter that refuses is counted, and no discrepancy
            return base.with_(export_error=_line(error))
        unfolded, deployed = done
        names = dict(zip(feeds[0], deployed.input_names, strict=True))
        pairs = dict(zip(deployed.output_names, single[0], strict=True))
        pairs |= dict(zip(unfolded.output_names, single[0], strict=True))
        try:
            judged = judge(
                Native(single, double, why_not), unfolded.path, deployed.path, feeds, names, pairs,
                Path(root) / "work",
            )  # fmt: skip
        except Exception as error:  # a defect of this program is to be seen
            return base.with_(harness_error=_line(error))
        return base.with_(findings=tuple(judged.findings), missing=tuple(judged.missing), ratios=judged.ratios)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@contextlib.contextmanager
def trying() -> Iterator[Any]:
    """:func:`try_case`, once the framework is there."""
    framework()
    require("tf2onnx.convert")
    gc.freeze()  # what was imported stays: looking through it at every collection takes most of the time
    yield try_case
