"""Weights from a TensorFlow checkpoint: every variable of the model is restored from it, or it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.errors import WeightsUnavailable
from onnxeq_converters.from_keras.framework import framework
from onnxeq_converters.from_tensorflow.framework import first_line, quiet_stdout
from onnxeq_converters.naming import unique

__all__ = ["prefix_of", "restore"]

_SHOWN = 4


def prefix_of(path: Path) -> str:
    """The checkpoint that a path names, as a prefix of its files; empty when it names none.

    A folder names the last checkpoint in it.
    """
    if path.name.endswith(".index") and path.is_file():
        return str(path)[: -len(".index")]
    if path.with_name(f"{path.name}.index").is_file():
        return str(path)
    return str(framework().tf.train.latest_checkpoint(str(path)) or "") if path.is_dir() else ""


def restore(model: Any, prefix: str, name: str) -> None:
    """Sets every variable of ``model``, in place.

    The checkpoint is one of ``tf.train.Checkpoint(model=model)``, as trainers write it, or of the model itself.

    Args:
        model: A built Keras model.
        prefix: The checkpoint.
        name: What a message calls the model.

    Raises:
        WeightsUnavailable: The checkpoint cannot be read, or holds no value of the right shape for some variable.
    """
    tf = framework().tf
    try:
        parts = {key.partition("/")[0] for key in tf.train.load_checkpoint(prefix).get_variable_to_shape_map()}
        if "model" in parts:  # a trainer's: the others are its optimizer's
            root = tf.train.Checkpoint(model=model)
        elif "backbone" in parts and hasattr(model, "backbone"):  # that alone, so that the head will be missing
            root = tf.train.Checkpoint(backbone=model.backbone)
        else:
            root = tf.train.Checkpoint(model)
        _unset(model)
        with quiet_stdout():
            root.read(prefix).expect_partial()
    except Exception as error:  # the reader raises anything from its own errors to ValueError
        raise WeightsUnavailable(f"{prefix} does not fit {name}: {first_line(error)}") from error
    if missing := _still_unset(model):
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        total = len(model.variables)
        raise WeightsUnavailable(
            f"{prefix} holds no values for {len(missing)} of {total} variables of {name}: "
            f"{', '.join(missing[:_SHOWN])}{more}",
            hint="name a checkpoint of the whole model: the same backbone, and its classification head",
        )


def _unset(model: Any) -> None:
    """Marks every variable by a value that no checkpoint gives it: what has it afterwards was not restored.

    (TensorFlow's own assertion passes a variable that another object shares, and names objects, not variables.)
    """
    for variable in model.variables:
        variable.assign(np.full(variable.shape, _mark(variable), variable.dtype.as_numpy_dtype))


def _still_unset(model: Any) -> list[str]:
    variables = list(model.variables)
    names = unique(str(v.name).partition(":")[0] for v in variables)
    return [n for n, v in zip(names, variables, strict=True) if _is_marked(np.asarray(v), _mark(v))]


def _mark(variable: Any) -> float:
    kind = np.dtype(variable.dtype.as_numpy_dtype)
    return np.nan if kind.kind not in "iub" else 0.0 if kind.kind == "b" else float(np.iinfo(kind).max)


def _is_marked(value: Any, mark: float) -> bool:
    if not value.size or value.dtype.kind == "b":
        return False
    return bool(np.all(np.isnan(value) if np.isnan(mark) else value == mark))
