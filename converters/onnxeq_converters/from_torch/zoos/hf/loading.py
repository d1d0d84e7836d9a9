"""Configuration and weights of a transformers model, from a folder, from the hub's cache, or from the network."""

from __future__ import annotations

import contextlib
import difflib
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from onnxeq.errors import CannotRun, UnusableModel, UsageError, WeightsUnavailable
from onnxeq.protocols import LoadRequest

from ...weights import load_file
from ..downloads import bounded, require_hub
from . import types

__all__ = ["Found", "find", "load"]

_STORED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Found:
    """A configuration and where it came from.

    Attributes:
        name: The folder, the hub's name, or the model type.
        config: The configuration.
        reduced: For a model type: what of its default configuration was changed.
        stored: Where weights may lie: a folder or a name of the hub; empty for a model type.
        fetched: Whether the network had to be asked.
    """

    name: str
    config: Any
    reduced: str = ""
    stored: str = ""
    fetched: bool = False


def find(name: str, request: LoadRequest) -> Found:
    """The configuration that a name stands for: a folder, a model type if seeded, else a name of the hub."""
    if Path(name).is_absolute() and Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise UnusableModel(f"{name} holds no config.json", hint="give a folder that save_pretrained has written")
        return Found(name, _config(name, request, local=True), stored=name)
    if request.ref.weights == "seeded" and name in types.known():
        config, changed = types.reduced(name)
        return Found(name, config, changed or "nothing")
    if name.startswith(("/", ".")):
        raise UnusableModel(f"there is no folder {name}", hint="check the path")
    try:
        return Found(name, _config(name, request, local=True), stored=name)
    except OSError:
        pass  # not in the cache
    with bounded(f"the configuration of {name}", _hint(name)):
        require_hub()
        return Found(name, _config(name, request, local=False), stored=name, fetched=True)


def load(found: Found, request: LoadRequest) -> tuple[Any, str]:
    """The model with the weights that are asked for (seeded ones are put in later), and their kind."""
    kind = _class_of(found.config, request)
    weights = request.ref.weights
    if weights == "seeded":
        with _quiet():
            return _made(kind, found.config, request), f"seeded:{request.ref.seed}"
    if weights in ("", "pretrained"):
        if Path(found.stored).is_dir() and not any((Path(found.stored) / n).is_file() for n in _STORED):
            raise WeightsUnavailable(
                f"{found.name} holds no weights ({', '.join(n for n in _STORED if 'index' not in n)})",
                hint=f"use hf:{found.name}@seeded, or hf:{found.name}@FILE",
            )
        if Path(found.stored).is_dir():
            return _pretrained(kind, found, request), "stored"
        with bounded(f"the weights of {found.name}", _hint(found.name)):
            return _pretrained(kind, found, request), "pretrained"
    state = load_file(Path(weights), trust=request.trust)
    with _quiet():
        model, told = kind.from_pretrained(None, config=found.config, state_dict=state, output_loading_info=True)
    _require_complete(told, weights, model)
    if others := sorted(told.get("unexpected_keys") or ()):  # as for any module: a file of another model
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise UsageError(f"{weights} holds what {type(model).__name__} has no place for: {', '.join(others[:5])}{more}")
    return model.float(), weights


def _config(name: str, request: LoadRequest, *, local: bool) -> Any:
    with _quiet():
        try:
            return transformers.AutoConfig.from_pretrained(
                name, local_files_only=local, trust_remote_code=request.trust
            )
        except (ValueError, KeyError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if "trust_remote_code" in str(error):
                raise UnusableModel(
                    f"{name} can only be read by running code stored in it", hint="allow that with --trust"
                ) from error
            raise UnusableModel(f"{name} has a config.json that transformers does not read: {reason}") from error


def _class_of(config: Any, request: LoadRequest) -> Any:
    """The class that ``architectures`` names; for code of its own, or where nothing is named, an Auto class."""
    if getattr(config, "auto_map", None):
        if not request.trust:
            raise UnusableModel("the configuration names code of its own (auto_map)", hint="allow that with --trust")
        named = [name for name in config.auto_map if name.startswith("AutoModel")]
        return getattr(transformers, named[0] if named else "AutoModel")
    for architecture in config.architectures or ():
        kind = types.class_named(architecture)
        if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
            return kind
    if config.architectures:
        raise UnusableModel(
            f"transformers has no model {', '.join(config.architectures)}, which the configuration names",
            hint="take another version of transformers, or correct 'architectures' in config.json",
        )
    return transformers.AutoModel


def _made(kind: Any, config: Any, request: LoadRequest) -> Any:
    config.dtype = torch.float32
    if hasattr(kind, "from_config"):  # an Auto class
        return kind.from_config(config, trust_remote_code=request.trust)
    try:
        return kind(config)
    except Exception as error:  # a default configuration need not fit together; a folder's may be damaged
        reason = " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())
        raise CannotRun(
            f"transformers cannot build {kind.__name__} from this configuration: {reason}",
            hint="write one that it can build to a folder and name that: hf:FOLDER@seeded",
        ) from error


def _pretrained(kind: Any, found: Found, request: LoadRequest) -> Any:
    options = {"config": found.config, "dtype": torch.float32, "trust_remote_code": request.trust}
    with _quiet():
        try:
            model, told = kind.from_pretrained(found.stored, local_files_only=True, output_loading_info=True, **options)
        except OSError:
            if Path(found.stored).is_dir():
                raise
            require_hub()
            model, told = kind.from_pretrained(found.stored, output_loading_info=True, **options)
    _require_complete(told, found.name, model)
    return model


def _require_complete(told: Any, origin: str, model: Any) -> None:
    """Transformers fills what is missing with random numbers and warns; nothing takes the place of weights here."""
    absent, other = sorted(told["missing_keys"]), list(told.get("mismatched_keys") or ())
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise UsageError(f"{origin} does not fit {type(model).__name__}: missing {', '.join(absent[:5])}{more}")
    if other:
        raise UsageError(f"{origin} does not fit {type(model).__name__}: {other[0]} has another shape")


def _hint(name: str) -> str:
    known = types.known()
    if name in known:
        return f"use hf:{name}@seeded, or hf:FOLDER with a model that you have"
    near = difflib.get_close_matches(name.rpartition("/")[2], known, 3, 0.6)
    meant = f"did you mean {' or '.join(f'hf:{n}@seeded' for n in near)}? " if near else ""
    return f"{meant}hf:FOLDER takes a model that you have; onnxeq zoo list hf shows what needs no network"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Stdout is data, and what transformers warns about is either said as an error or of no consequence."""
    logger = logging.getLogger("transformers")
    level = logger.level
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        transformers.utils.logging.disable_progress_bar()
        try:
            yield
        finally:
            logger.setLevel(level)
