"""Code and foreign files in a saved Keras model, found before Keras reads it.

A configuration names classes and functions, and Keras looks them up and calls them: besides a ``Lambda`` layer's own
byte code, a name may lead to any module, or to a function of Keras that opens files. So, unless the user trusts the
file:

1. Classes and functions are Keras' own, from the modules that models are made of.
2. There is no layer that holds a program of its own (``Lambda``, ``TFSMLayer``, ``TorchModuleWrapper``), and none that
   calls a TensorFlow function outside of its mathematics.
3. A weights file keeps its values in itself, and they fit into this machine's memory.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnxeq.errors import UnusableModel
from onnxeq_converters import archives
from onnxeq_converters.from_tensorflow.framework import require

__all__ = ["refuse"]

_TRUST = "if you trust the file: --trust"

_PROGRAMS = frozenset({"__lambda__", "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})

_MODULES = re.compile(
    r"keras(\.src)?(\.(layers|models|initializers|regularizers|constraints|activations|dtype_policies|optimizers|losses"
    r"|metrics|ops|random|quantizers|backend\.common\.(dtypes|keras_tensor)|applications|tree)(\.\w+)*)?"
)
"""Where the classes and functions of a model lie."""

_MATHEMATICS = re.compile(
    r"(math|nn|__operators__|image|linalg|signal|bitwise|keras\.(activations|backend|ops))\.\w+|\w+"
)
_NO_MATHEMATICS = re.compile(r"(py_function|numpy_function|print|load|save|read|write|import|eval|exec|function)", re.I)
"""TensorFlow functions that a saved ``TFOpLambda`` layer may call, and words that no name of one holds."""


def refuse(path: Path) -> None:
    """Makes sure that reading a ``.keras`` or HDF5 model runs no code of the file's own and opens no other file.

    Raises:
        UnusableModel: It would; says what and where.
    """
    if path.suffix.lower() != ".keras":
        _check_hdf5(path, str(path))
        return
    archives.check(path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "config.json" in names:
            _check_config(path, archive.read("config.json"))
        for name in names:
            if name.endswith(".h5"):
                with archive.open(name) as stream:
                    _check_hdf5(path, stream)


def _refused(path: Path, what: str) -> UnusableModel:
    return UnusableModel(f"{path} holds {what}", hint=_TRUST)


def _check_config(path: Path, text: str | bytes) -> None:
    try:
        for entry in _objects(json.loads(text)):
            if what := _fault(entry):
                raise _refused(path, what)
    except (ValueError, RecursionError) as error:
        raise UnusableModel(f"{path}: its configuration is no JSON", hint="it may be damaged") from error


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a configuration; texts that hold a configuration themselves are not looked up by Keras."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _fault(entry: dict[str, Any]) -> str:
    name, module = entry.get("class_name"), entry.get("module")
    if not isinstance(name, str):
        return ""
    if name in _PROGRAMS:
        return f"a {name.strip('_')} layer, whose code would run"
    if name in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
        inner = entry.get("config")
        called = str(inner.get("function", "")) if isinstance(inner, dict) else ""
        if not _MATHEMATICS.fullmatch(called) or _NO_MATHEMATICS.search(called) or name == "TensorFlowOpLayer":
            return f"a {name} layer that calls {called!r}"
        return ""
    if module in (None, "") or (module == "builtins" and (name == "function" or name.startswith("__"))):
        return ""
    if not isinstance(module, str) or not _MODULES.fullmatch(module):
        return f"an object of the foreign module {module!r} ({name!r}), which would be imported"
    return ""


def _check_hdf5(path: Path, source: Any) -> None:
    h5py = require("h5py")
    try:
        with h5py.File(source, "r") as stored:
            config = stored.attrs.get("model_config")
            if config is not None:
                _check_config(path, config if isinstance(config, (str, bytes)) else str(config))
            _check_storage(path, h5py, stored)
    except (OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnusableModel(f"{path} is no whole HDF5 file: {reason}", hint="it may be truncated") from error


def _check_storage(path: Path, h5py: Any, stored: Any) -> None:
    taken, pending, seen = 0, [stored], set()
    while pending:
        group = pending.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise _refused(path, f"{where!r}, a link into another file")
            item = group.get(name)
            if item is None or item.id.__hash__() in seen:  # a link that leads nowhere, or round
                continue
            seen.add(item.id.__hash__())
            if isinstance(item, h5py.Group):
                pending.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise _refused(path, f"{where!r}, whose values lie in another file")
                taken += item.nbytes
    if taken > archives.memory():
        raise UnusableModel(f"{path} claims {taken} bytes of weights, this machine has {archives.memory()} of memory")
