"""ONNX files from torch's older exporter, which traces (``torch.onnx.export(dynamo=False)``).

It folds as it translates, so that each form is an export of its own. ``UNFOLDED`` preserves the training mode, which
keeps BatchNorm from being folded (the model is in inference mode all the same), and folds no constants.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import onnx
import torch

from onnxeq.errors import ExportFailed
from onnxeq.protocols import Progress
from onnxeq.types import Export, ExportForm

from .inputs import Calling, examples
from .reasons import reason_of

__all__ = ["write"]


def write(
    model: torch.nn.Module,
    calling: Calling,
    names: tuple[str, ...],
    folder: Path,
    form: ExportForm,
    opset: int | None,
    progress: Progress,
    *,
    dynamic: bool = True,
) -> tuple[Export, int]:
    """Writes one form, with a dynamic batch if it is asked for and the inputs have one in common; gives its opset, too.

    Raises:
        ExportFailed: With the exporter's reason in one line.
    """
    path = folder / f"{form.value}.onnx"
    allowed = dynamic
    shared = calling.shares_batch() if dynamic else tuple(False for _ in calling.specs)
    progress(f"export: trace the {form.value} form")
    inputs = [spec.name for spec in calling.specs]
    dynamic = any(shared)
    axes = {name: {0: "batch"} for name, is_shared in zip(inputs, shared, strict=True) if is_shared}
    axes |= {name: {0: "batch"} for name in names} if dynamic else {}
    for name, free in zip(inputs, calling.free_axes() if allowed else (), strict=False):
        axes.setdefault(name, {}).update(free)
    args, kwargs = calling.bind(examples(calling, 2 if dynamic else None))
    unfolded: dict[str, Any] = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    try:
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            torch.onnx.export(
                _traced(model, args, kwargs),
                args,
                path,
                kwargs=kwargs,
                dynamo=False,
                input_names=inputs,
                output_names=list(names),
                dynamic_axes=axes,
                keep_initializers_as_inputs=False,
                opset_version=opset,
                **(unfolded if form is ExportForm.UNFOLDED else {}),
            )
    except Exception as error:  # whatever an exporter raises is its failure
        raise ExportFailed(f"torch.onnx.export failed: {reason_of(error)}") from error
    written = onnx.load(str(path), load_external_data=False)
    given = tuple(value.name for value in written.graph.input)
    made = tuple(value.name for value in written.graph.output)
    if len(given) != len(inputs) or len(made) != len(names):
        raise ExportFailed(
            f"the exporter wrote {len(given)} inputs and {len(made)} outputs; "
            f"the model has {len(inputs)} and {len(names)}"
        )
    used = next(o.version for o in written.opset_import if o.domain in ("", "ai.onnx"))
    return Export(path, form, dynamic, given, made), used


def _traced(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.nn.Module:
    """A module that holds TorchScript as TorchScript itself: the exporter's own tracing loses what is inside."""
    scripted = [isinstance(module, torch.jit.ScriptModule) for module in model.modules()]
    if scripted[0] or not any(scripted) or kwargs:
        return model
    return torch.jit.trace(model, args, check_trace=False, strict=False)
