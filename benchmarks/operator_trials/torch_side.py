"""torch cases: an expression as a module, run natively and through both exporters."""

from __future__ import annotations

import contextlib
import gc
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from operator_cases import Case
from torch import nn
from torch.nn import functional

from onnxeq.types import Array, ExportForm, Precision, TensorSpec
from onnxeq_converters.from_torch.export import EXPORTERS, export
from onnxeq_converters.from_torch.inputs import Calling
from onnxeq_converters.from_torch.native import TorchNative, private_copy
from operator_trials.feeds import feed as make_feed
from operator_trials.judge import Native, judge
from operator_trials.quick import shared_tables
from operator_trials.results import Result

__all__ = ["try_case", "trying"]

_KNOWN: Mapping[str, Any] = {"torch": torch, "nn": nn, "F": functional, "math": math}


class Expression(nn.Module):
    """A case's expression; what its setup made is held as sub-modules and attributes."""

    def __init__(self, case: Case, names: Sequence[str]) -> None:
        super().__init__()
        torch.manual_seed(3)
        made: dict[str, Any] = dict(_KNOWN)
        exec(case.setup, made)  # noqa: S102 - the cases are this project's own
        self.names = tuple(names)
        self.made = tuple(n for n, v in made.items() if n not in _KNOWN and n != "__builtins__")
        for name in self.made:
            setattr(self, name, made[name])
        self.code = case.expression

    def forward(self, *tensors: torch.Tensor) -> Any:
        """The expression's value."""
        known = {**_KNOWN, **{name: getattr(self, name) for name in self.made}}
        return eval(self.code, known | dict(zip(self.names, tensors, strict=True)))  # noqa: S307 - as above


def try_case(case: Case, exporters: Sequence[str] = EXPORTERS) -> Iterator[Result]:
    """Every group of feeds through every exporter."""
    groups: dict[str, list[tuple[str, dict[str, Array]]]] = {}
    for text in case.feeds:
        made = make_feed(text)
        groups.setdefault(str([(n, a.dtype, a.shape) for n, a in made.items()]), []).append((text, made))
    for group in groups.values():
        for exporter in exporters:
            yield _try_group(case, exporter, group)


def _try_group(case: Case, exporter: str, group: Sequence[tuple[str, dict[str, Array]]]) -> Result:
    feeds = [made for _, made in group]
    repro = f"{case.setup + '; ' if case.setup else ''}{case.expression}  # {' ; '.join(text for text, _ in group)}"
    specs = tuple(TensorSpec(n, str(a.dtype), a.shape) for n, a in feeds[0].items())
    calling = Calling(specs, ("",) * len(specs))
    base = Result(case.label, exporter, repro)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as root:
        warnings.simplefilter("ignore")
        try:
            model = private_copy(Expression(case, [s.name for s in specs]))
            native = TorchNative(model, calling, {}, lambda _step: None, exporter=exporter)
            single = [native.run(feed, Precision.F32) for feed in feeds]
        except Exception as error:  # a case of ours that is wrong is to be seen, and not to stop the others
            return base.with_(native_error=_line(error))
        double, why_not = _double(native, feeds)
        args, _ = calling.bind(calling.tensors(feeds[0]))
        try:
            with torch.no_grad():
                outputs = model(*args)
            forms = (ExportForm.UNFOLDED, ExportForm.DEPLOYED)
            done = export(model, calling, outputs, Path(root), forms, None, lambda _step: None, exporter, dynamic=False)
        except Exception as error:  # an exporter that refuses is counted, and no discrepancy
            return base.with_(export_error=_line(error))
        unfolded, deployed = done.exports
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


def _double(native: TorchNative, feeds: Sequence[dict[str, Array]]) -> tuple[list[dict[str, Array]], str]:
    try:
        return [native.run(feed, Precision.F64) for feed in feeds], ""
    except Exception as error:  # whatever an operator raises that has no float64 form
        return [], f"native/f64: {_line(error)}"


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@contextlib.contextmanager
def trying() -> Iterator[Any]:
    """:func:`try_case`, with what exports have in common built once."""
    torch.set_num_threads(1)
    gc.freeze()  # what was imported stays: looking through it at every collection takes most of the time
    with shared_tables():
        yield try_case
