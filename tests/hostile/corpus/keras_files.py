"""``.keras`` archives and HDF5 models with code inside, written without Keras."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from corpus.case import Shelf

__all__ = ["CASES"]

_shelf = Shelf()
CASES = _shelf.cases


def _layer(name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {"name": "layer", **config}, "registered_name": None}


def _model(*layers: dict[str, Any]) -> dict[str, Any]:
    first = _layer("InputLayer", batch_shape=[None, 3])
    return _layer("Sequential", "keras", layers=[first, *layers])


def _archive(folder: Path, config: dict[str, Any], extra: dict[str, bytes] | None = None) -> list[str]:
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0", "date_saved": "2026-01-01@00:00:00"}))
        archive.writestr("config.json", json.dumps(config))
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return [str(path)]


def _hdf5(folder: Path, text: str) -> list[str]:
    with h5py.File(folder / "model.h5", "w") as stored:
        stored.attrs["model_config"] = text
        stored.attrs["keras_version"] = "2.15.0"
        stored.create_group("model_weights")
    return [str(folder / "model.h5")]


def _shell(folder: Path) -> dict[str, Any]:
    return {
        "module": "os",
        "class_name": "system",
        "config": f"touch {folder.parent / 'OWNED'}",
        "registered_name": "os>system",
    }


@_shelf.add("a Lambda layer", slow=True)
def lambda_layer(folder: Path) -> list[str]:
    code = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None, "closure": None}}
    return _archive(folder, _model(_layer("Lambda", function=code)))


@_shelf.add("a lambda layer", slow=True)
def lambda_as_an_activation(folder: Path) -> list[str]:
    code = {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}
    return _archive(folder, _model(_layer("Dense", units=2, activation=code)))


@_shelf.add("the foreign module 'os'", slow=True)
def class_of_another_module(folder: Path) -> list[str]:
    return _archive(folder, _model(_layer("Dense", units=2, kernel_initializer=_shell(folder))))


@_shelf.add("the foreign module 'keras.utils'", slow=True)
def function_that_fetches_a_file(folder: Path) -> list[str]:
    fetch = {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"}
    return _archive(folder, _model(_layer("Dense", units=2, activation=fetch)))


@_shelf.add("the foreign module 'builtins'", slow=True)
def builtin_that_evaluates(folder: Path) -> list[str]:
    return _archive(folder, _model(_layer("eval", "builtins")))


@_shelf.add("a TorchModuleWrapper layer", slow=True)
def wrapper_of_a_pickle(folder: Path) -> list[str]:
    return _archive(folder, _model(_layer("TorchModuleWrapper", module="gASV")))


@_shelf.add("leads out of the archive", slow=True)
def keras_entry_that_leads_out(folder: Path) -> list[str]:
    return _archive(folder, _model(_layer("Dense", units=2)), {"../OWNED": b"x"})


@_shelf.add("is a link", slow=True)
def keras_entry_that_is_a_link(folder: Path) -> list[str]:
    path = _archive(folder, _model(_layer("Dense", units=2)))
    with zipfile.ZipFile(path[0], "a") as archive:
        entry = zipfile.ZipInfo("assets")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, str(folder.parent))
    return path


@_shelf.add("unpacks to", slow=True)
def keras_bomb(folder: Path) -> list[str]:
    """An entry that says it unpacks to a hundred terabytes; the central directory is all that is believed."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(_model(_layer("Dense", units=2))))
        entry = zipfile.ZipInfo("model.weights.h5")
        with archive.open(entry, "w", force_zip64=True) as stream:
            stream.write(b"x")
        archive.getinfo("model.weights.h5").file_size = 100 << 40
    return [str(path)]


@_shelf.add("a Lambda layer", slow=True)
def hdf5_lambda_spelled_otherwise(folder: Path) -> list[str]:
    r"""JSON may write ``Lambda`` as ``\u004cambda``."""
    text = json.dumps(_model(_layer("Lambda", function=["4wAAAA==", None, None], function_type="lambda")))
    return _hdf5(folder, text.replace('"Lambda"', '"\\u004cambda"'))


@_shelf.add("that calls 'io.write_file'", slow=True)
def hdf5_that_writes_files(folder: Path) -> list[str]:
    return _hdf5(folder, json.dumps(_model(_layer("TFOpLambda", function="io.write_file"))))


@_shelf.add("a link into another file", slow=True)
def hdf5_link_out(folder: Path) -> list[str]:
    path = _hdf5(folder, json.dumps(_model(_layer("Dense", units=2))))
    with h5py.File(path[0], "a") as stored:
        stored["model_weights"]["dense"] = h5py.ExternalLink("/etc/hostname.h5", "/")
    return path


@_shelf.add("lie in another file", slow=True)
def hdf5_values_elsewhere(folder: Path) -> list[str]:
    path = _hdf5(folder, json.dumps(_model(_layer("Dense", units=2))))
    with h5py.File(path[0], "a") as stored:
        stored["model_weights"].create_dataset("kernel", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    return path


@_shelf.add("bytes of weights", slow=True)
def hdf5_claim_of_2_to_the_50(folder: Path) -> list[str]:
    path = _hdf5(folder, json.dumps(_model(_layer("Dense", units=2))))
    with h5py.File(path[0], "a") as stored:
        stored["model_weights"].create_dataset("kernel", (1 << 48,), np.float32, chunks=(1024,))
    return path
