"""Model references: what a user's text names, and which converter answers for it."""

from __future__ import annotations

import contextlib
import difflib
import glob
import re
from collections.abc import Iterable
from dataclasses import replace
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from onnxeq.errors import FrameworkMissing, UnknownZoo, UnusableModel, UsageError
from onnxeq.types import ModelRef

if TYPE_CHECKING:
    from onnxeq.envs.environment import Environment

__all__ = [
    "BROUGHT_ALONG",
    "BUILT_IN",
    "CONVERTER_GROUP",
    "ENVIRONMENTS",
    "NETWORK",
    "ZOOS",
    "converter_for",
    "installed_converters",
    "installed_zoos",
    "known_zoos",
    "listing",
    "modules_of",
    "nearest",
    "parse",
    "parse_zoo",
    "require_framework",
    "weights_files",
]

CONVERTER_GROUP = "onnxeq.converters"

BUILT_IN = {
    "torch": "onnxeq_converters.from_torch",
    "keras": "onnxeq_converters.from_keras",
    "tensorflow": "onnxeq_converters.from_tensorflow",
    "tflite": "onnxeq_converters.from_tflite",
}
"""Converters that this package brings: they are there also where its metadata is older than its code."""

ZOOS: dict[str, str] = {
    **dict.fromkeys(("torchvision", "timm", "hf", "digits"), "torch"),
    **dict.fromkeys(("keras", "tfmg"), "keras"),
    "onnx-zoo": "onnx",
}
"""Zoo name -> converter; ``onnx`` is the host itself. A converter that is not listed here answers for the zoo of its
own name."""

_PREFIXES: dict[str, dict[str, str]] = {"digits": {"keras-": "keras"}}
"""Zoo -> how the names of those models begin that another converter loads, and which."""

BROUGHT_ALONG = ("digits",)
"""Zoos whose trained weights come with onnxeq."""

_WEIGHTS: dict[str, tuple[str, ...]] = {"digits": ("retrained",)}
"""Zoo -> the names of its weights besides ``pretrained``."""

_FILES: dict[str, str] = {
    ".onnx": "onnx",
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    **dict.fromkeys((".pt2", ".pt", ".pth", ".th", ".jit", ".ts", ".bin", ".ckpt", ".safetensors"), "torch"),
    ".pb": "tensorflow",
    ".tflite": "tflite",
}
"""File suffix -> converter; ``onnx`` is read by the host itself. A folder is a SavedModel."""


_MODULES: dict[str, tuple[str, ...]] = {
    "torchvision": ("torch", "torchvision"),
    "torch": ("torch",),
    "timm": ("torch", "torchvision", "timm"),
    "hf": ("torch", "transformers"),
    "keras": ("tensorflow", "keras", "tf2onnx"),
    "tfmg": ("official", "tensorflow", "tf_keras", "tf2onnx"),
    "tensorflow": ("tensorflow", "tf2onnx"),
    "tflite": ("tensorflow", "tf2onnx"),
}
"""What must be importable before a job is started for a zoo or a converter."""

ENVIRONMENTS: dict[str, str] = {"tfmg": "tfmg"}
"""Zoo -> the environment (``onnxeq env create``) of its packages, where they cannot be installed beside the others."""

NETWORK: dict[str, str] = {
    "torchvision": "for pretrained weights that torch's cache does not hold; @seeded needs none",
    "timm": "for pretrained weights that the Hugging Face hub's cache does not hold; @seeded needs none",
    "hf": "for names of the hub that its cache does not hold; a folder, or MODEL_TYPE@seeded, needs none",
    "keras": "for pretrained weights that Keras' cache does not hold; @seeded needs none",
    "onnx-zoo": "for all but the nine light models, which are inside the onnx package",
    "tfmg": "for pretrained weights; @seeded needs none",
    "digits": "for nothing: the trained weights come with onnxeq",
}
"""What of a zoo needs a network."""

_EXTRAS = {"timm": "timm", "hf": "hf"}
"""Zoo -> the extra that installs it, where it is not its converter's."""

_PACKAGES = {"official": "tf-models-official"}
"""Module -> the package that holds it, where the two are called otherwise."""


def parse(text: str) -> ModelRef:
    """Reads a model reference.

    Args:
        text: ``zoo:name[@weights]``, a path ``[@weights]``, ``SAVED_MODEL_FOLDER:signature``, or
            ``module_or_file.py:factory[@weights]``.

    Raises:
        UnusableModel: A path that does not exist, or a kind of file that nothing here reads.
        UnknownZoo: Neither a known zoo nor an importable module.
        UsageError: A malformed reference.
    """
    if not text.strip():
        raise UsageError("the model reference is empty", hint="type one such as torchvision:resnet50@seeded")
    if Path(text).exists():
        return _of_path(text, text, "", 0)
    body, weights, seed = _split_weights(text)
    head, colon, name = body.rpartition(":")
    if not colon or Path(body).exists() or (len(head) == 1 and head.isalpha()):
        return _of_path(text, body, weights, seed)
    if not name:
        raise UsageError(f"'{text}' names no model after the colon", hint=f"list them with: onnxeq zoo list {head}")
    if head.endswith(".py"):
        if not Path(head).is_file():
            raise UnusableModel(f"there is no file {head}", hint="check the path before the colon")
        return ModelRef(text, "factory", name, weights, seed, module=str(Path(head).resolve()))
    if _is_saved_model(Path(head)):
        return replace(_of_path(text, head, weights, seed), module=name)
    if head in installed_zoos() or head in ZOOS:
        return ModelRef(text, head, _absolute(name) if head in _IN_FOLDERS else name, weights, seed)
    if re.fullmatch(r"[A-Za-z_][\w.]*", head) and _importable(head):
        return ModelRef(text, "factory", name, weights, seed, module=head)
    known = sorted({*ZOOS, *installed_zoos()})
    near = nearest(head, known)
    raise UnknownZoo(
        f"'{head}' is neither a zoo nor a module that can be imported here",
        hint=f"did you mean {near}? Zoos: {', '.join(known)}" if near else f"zoos: {', '.join(known)}",
    )


def converter_for(ref: ModelRef) -> str:
    """The converter that loads ``ref``: its entry point's name, ``onnx``, or ``factory`` (decided in the job)."""
    if ref.zoo == "file":
        return "tensorflow" if Path(ref.name).is_dir() else _FILES[Path(ref.name).suffix.lower()]
    if ref.zoo in ("factory", "live"):
        return "factory"
    for prefix, converter in _PREFIXES.get(ref.zoo, {}).items():
        if ref.name.startswith(prefix):
            return converter
    return ZOOS.get(ref.zoo, ref.zoo)


def listing(name: str, environment: Environment | None = None) -> ModelRef:
    """A reference into a zoo, for its list: of a converter whose framework is installed, where there is one."""
    refs = [parse(f"{name}:{prefix}x") for prefix in ("", *_PREFIXES.get(name, ()))]
    for ref in refs:
        with contextlib.suppress(FrameworkMissing):
            require_framework(ref, environment=environment)
            return ref
    return refs[0]


def weights_files(ref: ModelRef) -> tuple[Path, ...]:
    """The file after ``@``, or those of a TensorFlow checkpoint; none where no file stands there."""
    if ref.weights in ("", "seeded", "pretrained", *_WEIGHTS.get(ref.zoo, ())):
        return ()
    return _checkpoint_files(ref.weights) or (Path(ref.weights),)


def installed_converters() -> dict[str, str]:
    """Name -> what to import, without importing any."""
    found = {entry.name: entry.value for entry in metadata.entry_points(group=CONVERTER_GROUP)}
    return dict(sorted((found | BUILT_IN).items()))


def installed_zoos() -> tuple[str, ...]:
    """Zoos that an installed converter answers for, without importing any."""
    names = set(installed_converters())
    listed = {zoo for zoo, converter in ZOOS.items() if converter in names | {"onnx"}}
    return tuple(sorted(listed | (names - set(ZOOS.values()) - set(BUILT_IN))))


def known_zoos() -> tuple[str, ...]:
    """Zoos that an installed converter answers for, here or in an environment of their own."""
    return tuple(sorted({*installed_zoos(), *(zoo for zoo in ENVIRONMENTS if zoo in ZOOS)}))


def parse_zoo(name: str) -> ModelRef:
    """A reference that names a zoo and no model of it.

    Raises:
        UnknownZoo: There is none of that name.
    """
    ref = parse(f"{name}:x")
    if ref.zoo != name:
        raise UnknownZoo(f"'{name}' is no zoo", hint="onnxeq zoo list names them")
    return ref


def modules_of(name: str) -> tuple[str, ...]:
    """What must be importable for a zoo, or a converter."""
    return _MODULES.get(name, _MODULES.get(ZOOS.get(name, name), ()))


def require_framework(ref: ModelRef, subject: str = "", environment: Environment | None = None) -> Environment | None:
    """Finds, without importing it, where the framework of ``ref`` is installed.

    Args:
        ref: The model.
        subject: What needs the framework, for the message; by default the reference.
        environment: Where it must be; without one in the host's own Python, else in the zoo's own environment.

    Returns:
        The environment that holds it; ``None`` is the host's own Python.

    Raises:
        FrameworkMissing: With the command that installs it.
        UsageError: The zoo's own environment is there and cannot be used.
    """
    wanted = _MODULES.get(ref.zoo, _MODULES.get(converter_for(ref), ()))
    if environment is not None:
        _require_in(environment, wanted, subject or ref.text)
        return environment
    absent = next((module for module in wanted if util.find_spec(module) is None), None)
    if absent is None:
        return None
    own = ENVIRONMENTS.get(ref.zoo)
    if own is None:
        extra = _EXTRAS.get(ref.zoo, converter_for(ref))
        raise FrameworkMissing(
            _lacks(subject or ref.text, absent, "installed here"), hint=f"pip install 'onnxeq[{extra}]'"
        )
    from onnxeq.envs import environment as environments

    if environments.read(own) is None:
        said = _lacks(subject or ref.text, absent, f"installed here, and there is no environment '{own}' that holds it")
        raise FrameworkMissing(said, hint=f"onnxeq env create {own}")
    found = environments.find(own)
    _require_in(found, wanted, subject or ref.text)
    return found


def _require_in(environment: Environment, modules: tuple[str, ...], subject: str) -> None:
    for module in modules:
        if not environment.has(module):
            package = _PACKAGES.get(module, module)
            said = f"{subject} needs the package '{package}', which '{environment.name}' does not hold"
            raise FrameworkMissing(said, hint="onnxeq env list shows what each environment holds")


def _lacks(subject: str, module: str, where: str) -> str:
    return f"{subject} needs the package '{_PACKAGES.get(module, module)}', which is not {where}"


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The names closest to ``name``, as text for a hint; empty when none is close."""
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)
    return " or ".join(lowered[c] for c in close)


def _checkpoint_files(prefix: str) -> tuple[Path, ...]:
    """The files of a TensorFlow checkpoint, which is named by what their names begin with; empty where it is none."""
    index = Path(f"{prefix}.index")
    if not index.is_file():
        return ()
    return (index, *sorted(index.parent.glob(f"{glob.escape(index.stem)}.data-*")))


_IN_FOLDERS = ("hf",)
"""Zoos whose models may be folders."""


def _absolute(name: str) -> str:
    """A model in a folder here (``hf:DIR#part``) by its whole path, as a job runs elsewhere; other names as they are.

    A folder that only has a model's name, without a configuration in it, is none.
    """
    folder, mark, part = name.partition("#")
    meant = Path(folder).is_dir() and ("/" in folder or (Path(folder) / "config.json").is_file())
    return f"{Path(folder).resolve()}{mark}{part}" if meant else name


def _split_weights(text: str) -> tuple[str, str, int]:
    body, at, weights = text.rpartition("@")
    if not at:
        return text, "", 0
    kind, colon, number = weights.partition(":")
    if kind == "seeded":
        if colon and not number.isdigit():
            raise UsageError(f"'{weights}' is not a seed", hint="write @seeded or @seeded:7")
        return body, "seeded", int(number or 0)
    named = ("pretrained", *_WEIGHTS.get(body.partition(":")[0], ()))
    if weights in named:
        return body, weights, 0
    if Path(weights).exists() or _checkpoint_files(weights):
        return body, str(Path(weights).resolve()), 0
    raise UsageError(
        f"there are no weights '{weights}'",
        hint=f"after @ stands seeded, seeded:N, {', '.join(named)}, an existing file, or a TensorFlow checkpoint",
    )


def _of_path(text: str, body: str, weights: str, seed: int) -> ModelRef:
    path = Path(body)
    suffix = path.suffix.lower()
    if _is_saved_model(path) or path.name in _SAVED_MODEL:
        folder = path if path.is_dir() else path.parent
        return ModelRef(text, "file", str(folder.resolve()), weights, seed)
    if suffix == ".py":
        raise UsageError(f"{body} is a Python file", hint=f"name the function that builds the model: {body}:FUNCTION")
    if not path.exists():
        looks_like_file = bool(suffix) or "/" in body
        hint = (
            "check the path" if looks_like_file else "zoo models are written zoo:name, e.g. torchvision:resnet50@seeded"
        )
        raise UnusableModel(f"there is no file {body}", hint=hint)
    if path.is_dir():
        readable = ", ".join(sorted(_FILES))
        raise UnusableModel(f"{body} is a folder", hint=f"give a SavedModel folder or a model file ({readable})")
    if suffix not in _FILES:
        raise UnusableModel(f"{body}: unknown kind of file '{suffix}'", hint=f"readable: {', '.join(sorted(_FILES))}")
    if path.exists() and not path.is_file():  # a pipe or a device: reading it need not end
        raise UnusableModel(f"{body}: is no regular file", hint="give a model file")
    # A download cache keeps the file under another name, to which the one with the suffix is a link.
    found = path.resolve()
    return ModelRef(text, "file", str(found if found.suffix.lower() == suffix else path.absolute()), weights, seed)


_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")


def _is_saved_model(path: Path) -> bool:
    return any((path / name).is_file() for name in _SAVED_MODEL)


def _importable(module: str) -> bool:
    try:
        if util.find_spec(module) is not None:
            return True
    except (ImportError, ValueError):
        return False
    return (Path.cwd() / Path(*module.split("."))).with_suffix(".py").exists()
