"""torch as a source: the zoos of its models, program files, checkpoints and live modules.

This module is light: torch is imported inside the functions, so that :func:`owns` can be asked about
any object and a missing torch is a typed error.

================  ==========================================================================
:mod:`.zoos`      torchvision, timm, transformers, digits: builders, weights, what each model takes
:mod:`.files`     ``.pt2`` programs
:mod:`.inputs`    which tensor goes where in ``forward``
:mod:`.outputs`   names for whatever ``forward`` returns
:mod:`.native`    the running program; :mod:`.float64` is how it runs in float64
:mod:`.export`    the dynamo exporter, called once for both forms; :mod:`.torchscript` the older one
:mod:`.layers`    the program behind the export, value by value
:mod:`.kernels`   each operator of the float32 run against its float64 form
:mod:`.seeding`   ``@seeded`` weights; :mod:`.calibration` keeps them healthy
:mod:`.weights`   state dicts and fingerprints
================  ==========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxeq.errors import FrameworkMissing, UsageError

from .zoos import ZOOS, Zoo, packages, zoo_of

if TYPE_CHECKING:
    from onnxeq.protocols import LoadRequest, ModelCard, Native, Preprocessor, Progress
    from onnxeq.types import ZooEntry

__all__ = ["card", "catalogue", "load", "owns", "preprocessing", "warm_up", "wrap"]

_INSTALL = "pip install 'onnxeq[torch]'"


def load(request: LoadRequest, progress: Progress) -> Native:
    """Loads ``ZOO:NAME[@WEIGHTS]`` or a file; see :class:`onnxeq.protocols.Converter`."""
    progress("import torch")
    _require("torch")
    from . import files

    ref = request.ref
    if ref.zoo == "file":
        return files.load(request, progress)
    zoo = _zoo(ref.zoo)
    from . import inputs, native, seeding

    progress("load")
    built = zoo.build(request)
    model = built.model
    model.eval()
    calling = inputs.resolve(model, request.inputs, built.inputs)
    if built.listed:
        calling = inputs.as_list_of_images(calling)
    described = {**zoo.versions(), "model": ref.name, "weights": built.weights, **built.described}
    if ref.weights == "seeded":
        progress("seed")
        _note(described, seeding.seed_weights(model, calling, ref.seed))
    return native.TorchNative(model, calling, described, progress, request.threads, request.exporter)


def wrap(model: object, request: LoadRequest, progress: Progress) -> Native:
    """Takes a live module or a torch.export program; the caller's object is never changed."""
    _require("torch")
    import torch

    from . import files, inputs, native, seeding, weights

    progress("copy")
    if isinstance(model, torch.export.ExportedProgram):
        return files.from_program(model, request, progress)
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"a {type(model).__name__} is not a torch.nn.Module")
    mine = native.private_copy(model)
    kind = "live"
    ref = request.ref
    if ref.weights not in ("", "seeded", "pretrained"):
        from pathlib import Path

        weights.put_in(mine, weights.load_file(Path(ref.weights), trust=request.trust), ref.weights)
        kind = ref.weights
    calling = inputs.with_ranges(mine, inputs.in_own_type(mine, inputs.resolve(mine, request.inputs)))
    described = {"model": f"{type(model).__module__}.{type(model).__qualname__}"}
    if ref.weights == "seeded":
        progress("seed")
        kind = f"seeded:{ref.seed}"
        _note(described, seeding.seed_weights(mine, calling, ref.seed))
    described["weights"] = kind
    return native.TorchNative(mine, calling, described, progress, request.threads, request.exporter)


def warm_up(zoo: str) -> None:
    """Imports torch, and what its zoos need."""
    _require("torch")
    if zoo in ZOOS:
        _zoo(zoo)
    from . import native  # noqa: F401


def owns(model: object) -> bool:
    """Whether ``model`` is a torch module or exported program, told by its class's ancestry."""
    homes = {("torch.nn.modules.module", "Module"), ("torch.export.exported_program", "ExportedProgram")}
    return any((kind.__module__, kind.__name__) in homes for kind in type(model).__mro__)


def catalogue(zoo: str) -> tuple[ZooEntry, ...]:
    """The models of one of :data:`.zoos.ZOOS`."""
    _require("torch")
    return _zoo(zoo).catalogue()


def preprocessing(request: LoadRequest) -> Preprocessor:
    """How the zoo makes inputs of pictures; see :class:`onnxeq.protocols.Converter`."""
    _require("torch")
    return _zoo(request.ref.zoo).preprocessing(request)


def card(request: LoadRequest) -> ModelCard:
    """What the zoo says of a model; see :class:`onnxeq.protocols.Converter`."""
    _require("torch")
    return _zoo(request.ref.zoo).card(request)


def _zoo(name: str) -> Zoo:
    for package in packages(name):
        _require(package)
    return zoo_of(name)


def _note(described: dict[str, Any], notes: tuple[str, ...]) -> None:
    if notes:
        described["seeding_notes"] = "; ".join(notes)


def _require(package: str) -> None:
    """Raises :class:`FrameworkMissing` unless ``package`` can be imported."""
    import importlib

    try:
        importlib.import_module(package)
    except (ImportError, RuntimeError) as error:  # torchvision built for another torch raises RuntimeError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FrameworkMissing(f"{package} cannot be imported: {reason}", hint=_INSTALL) from error
