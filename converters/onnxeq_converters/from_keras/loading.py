"""From a model reference to a Keras model with its weights in place."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxeq.errors import UnusableModel, UsageError, WeightsUnavailable
from onnxeq.protocols import LoadRequest, Progress
from onnxeq.types import ValueRange
from onnxeq_converters.digest import file_sha256
from onnxeq_converters.from_keras import checkpoints, model_garden, stored_code, zoo
from onnxeq_converters.from_keras.framework import framework, tf_keras
from onnxeq_converters.from_tensorflow.framework import first_line, quiet_stdout, require, version

__all__ = ["Loaded", "adopt", "load_model"]

_HDF5_SUFFIXES = (".h5", ".hdf5")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Loaded:
    """A model, whether its weights are still to be seeded, and what is known about it.

    Attributes:
        model: A ``keras.Model`` or ``tf_keras.Model``.
        seed: Seed for its weights; ``None`` when they are in place.
        range: The values that its image input is made for.
        facts: What goes into the provenance.
    """

    model: Any
    seed: int | None = None
    range: ValueRange | None = None
    facts: dict[str, str] = field(default_factory=dict)


def load_model(request: LoadRequest, progress: Progress) -> Loaded:
    """Loads what ``request.ref`` names.

    Raises:
        onnxeq.errors.UnknownModel: The zoo has no such model.
        onnxeq.errors.FrameworkMissing: The zoo's package is not installed.
        onnxeq.errors.UnusableModel: The file is missing, damaged, or would run code of its own.
        onnxeq.errors.WeightsUnavailable: The weights could not be had.
    """
    ref = request.ref
    if ref.zoo == "tfmg":
        model_garden.refuse_pretrained(request)  # before anything heavy is imported
    framework()
    if ref.zoo == "tfmg":
        model = model_garden.build(request, progress)
        facts = {"zoo": "tfmg", model_garden.VERSION: version(model_garden.VERSION)}
        return _with_weights(model, request, model_garden.value_range(len(model.inputs[0].shape)), facts)
    if ref.zoo == "keras":
        model = zoo.build(request, progress)
        limits = zoo.value_range(zoo.constructors()[ref.name])
        return _with_weights(model, request, limits, {"zoo": "keras"})
    if ref.zoo == "digits":
        return _digits(request, progress)
    if ref.zoo != "file":
        raise UsageError(f"the Keras converter does not load {ref.zoo}: references", hint="use keras:NAME or a file")
    path = Path(ref.name)
    progress(f"read {path.name}")
    facts = {"file_sha256": _sha256(path)}
    return _with_weights(_read(path, trust=request.trust), request, None, facts)


def adopt(model: object, request: LoadRequest) -> Loaded:
    """Takes a live model as it is; a factory's model gets the weights that were asked for."""
    framework()
    if request.ref.zoo == "live":
        return Loaded(model, facts={"weights": "live"})
    return _with_weights(model, request, None, {})


def _digits(request: LoadRequest, progress: Progress) -> Loaded:
    """One of this project's own models; weights of its torch twin fit it, too."""
    from onnxeq_converters import digits
    from onnxeq_converters.digits import keras_models

    ref = request.ref
    name = digits.architecture_of(ref.name, digits.KERAS)
    progress(f"build {ref.name}")
    facts = {"zoo": "digits", "model": ref.name}
    if (kind := ref.weights or "pretrained") in digits.SEEDS:
        return Loaded(keras_models.trained(name, kind), None, digits.INPUT.range, facts | {"weights": kind})
    model = keras_models.BUILDERS[name]()
    path = Path(ref.weights)
    if path.suffix != ".safetensors" or ref.weights == "seeded":
        return _with_weights(model, request, digits.INPUT.range, facts)
    keras_models.put_in(model, digits.read(path), ref.weights)
    return Loaded(
        model, None, digits.INPUT.range, facts | {"weights": ref.weights, "weights_file_sha256": _sha256(path)}
    )


def _with_weights(model: Any, request: LoadRequest, limits: ValueRange | None, facts: dict[str, str]) -> Loaded:
    ref = request.ref
    if ref.weights == "seeded":
        return Loaded(model, ref.seed, limits, facts | {"weights": f"seeded:{ref.seed}"})
    if ref.weights in ("", "pretrained", "imagenet"):
        own = "imagenet" if ref.zoo == "keras" else "as stored"
        return Loaded(model, None, limits, facts | {"weights": own})
    path = Path(ref.weights)
    if prefix := checkpoints.prefix_of(path):
        checkpoints.restore(model, prefix, ref.text.rpartition("@")[0])
        return Loaded(model, None, limits, facts | {"weights": prefix})
    if not path.is_file():
        hint = "use @seeded, the path of a .weights.h5 file, or FOLDER/ckpt-NUMBER of a TensorFlow checkpoint"
        raise WeightsUnavailable(f"no weights in {path}", hint=hint)
    try:
        with quiet_stdout():
            model.load_weights(str(path))
    except Exception as error:
        raise WeightsUnavailable(f"{path} does not fit {ref.name}: {first_line(error)}") from error
    return Loaded(model, None, limits, facts | {"weights": str(path), "weights_file_sha256": _sha256(path)})


def _read(path: Path, *, trust: bool) -> Any:
    """Reads a model file. No code in the file runs unless ``trust``."""
    if not path.is_file():
        raise UnusableModel(f"no such file: {path}")
    suffix = path.suffix.lower()
    if suffix in _HDF5_SUFFIXES:
        with path.open("rb") as stream:
            if stream.read(8) != _HDF5_MAGIC:
                raise UnusableModel(f"{path} is not an HDF5 file", hint="it may be truncated or mislabelled")
    elif suffix == ".keras":
        if not zipfile.is_zipfile(path):
            raise UnusableModel(f"{path} is not a Keras archive (zip)", hint="it may be truncated or mislabelled")
    else:
        raise UnusableModel(f"{path}: the Keras converter reads .keras, .h5 and .hdf5, not {suffix or 'this'}")
    if not trust:
        stored_code.refuse(path)
    try:
        with quiet_stdout():
            return framework().keras.models.load_model(str(path), compile=False, safe_mode=not trust)
    except Exception as error:  # the readers raise anything from KeyError to BadZipFile
        return _second_reader(path, error, trust=trust)


def _second_reader(path: Path, error: Exception, *, trust: bool) -> Any:
    """What to do when Keras 3 cannot read a file: say why, or try Keras 2 on an HDF5 file."""
    text = str(error)
    if not trust and ("safe_mode" in text or "unsafe" in text.lower()):
        raise UnusableModel(
            f"{path} holds a Lambda layer, whose Python code would run", hint="if you trust the file: --trust"
        ) from error
    is_hdf5 = path.suffix.lower() in _HDF5_SUFFIXES
    keras2 = tf_keras() if is_hdf5 else None
    if keras2 is None:
        hint = "it may be a Keras 2 file: pip install tf_keras" if is_hdf5 and _is_whole_hdf5(path) else ""
        raise UnusableModel(f"Keras cannot read {path}: {first_line(error)}", hint=hint) from error
    try:
        with quiet_stdout():
            return keras2.models.load_model(str(path), compile=False)
    except Exception as second:
        raise UnusableModel(
            f"neither Keras 3 nor tf_keras can read {path}: {first_line(error)}; {first_line(second)}"
        ) from second


def _is_whole_hdf5(path: Path) -> bool:
    h5py = require("h5py")

    try:
        with h5py.File(path, "r") as stored:
            return "model_config" in stored.attrs
    except OSError:
        return False


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise UnusableModel(f"no such file: {path}")
    return file_sha256(path)
