"""What is known of a transformers model without its weights: the model card in its folder, or its type's defaults."""

from __future__ import annotations

import re
from pathlib import Path

import transformers

from onnxeq.errors import OnnxeqError
from onnxeq.protocols import Fact, LoadRequest, ModelCard
from onnxeq.types import ZooEntry

from ..facts import in_hub_cache, licence_of, parameters_of
from . import loading, types

__all__ = ["entry", "of_reference"]


def entry(name: str) -> ZooEntry:
    """A model type as the catalogue lists it."""
    kind = types.known()[name]
    note = f"@seeded: {kind.architecture}, built from the default configuration, reduced"
    return ZooEntry(name, kind.family, (), note)


def of_reference(request: LoadRequest) -> ModelCard:
    """The card of a folder, a model type or a name of the hub.

    Raises:
        UnknownModel: Nothing of that name.
        WeightsUnavailable: The hub has it, and cannot be reached.
    """
    name = request.ref.name.partition("#")[0]
    if name in types.known() and request.ref.weights in ("", "seeded"):
        return _of_type(name)
    found = loading.find(name, request)
    kind = str((found.config.architectures or ["?"])[0])
    text = _card_text(name)
    where = f"README.md of {name}" if text else f"{name} has no model card (README.md) at hand"
    licence = re.search(r"^license:\s*(\S+)", text, re.MULTILINE)
    accuracy = "the model card may state it" if text else where
    held = "stored in the folder" if Path(name).is_dir() else "from the network"
    held = "in the hub's cache: no network needed" if in_hub_cache(name) else held
    facts = {
        "accuracy": Fact(None, f"{accuracy}; its text is not read"),
        "licence": Fact(licence[1] if licence else None, where if licence or not text else f"{where} states none"),
        "parameters": Fact(None, "not told without loading it"),
        "weights": Fact(f"{kind}, {held}", f"config.json of {name}"),
    }
    return ModelCard(ZooEntry(name, str(found.config.model_type), (), kind), facts)


def _of_type(name: str) -> ModelCard:
    place = f"transformers {transformers.__version__}"
    try:
        config, changed = types.reduced(name)
        counted = parameters_of(
            lambda: types.class_named(types.known()[name].architecture)(config),
            f"counted in {place}'s default configuration{', changed: ' + changed if changed else ''}",
        )
    except OnnxeqError as error:
        counted = Fact(None, error.message)
    facts = {
        "accuracy": Fact(None, "a model type has no weights of its own"),
        "licence": licence_of("transformers", None, "a model type, which has no weights"),
        "parameters": counted,
        "weights": Fact("none: @seeded only, which needs no network", place),
    }
    return ModelCard(entry(name), facts)


def _card_text(name: str) -> str:
    path: object = Path(name) / "README.md"
    if not Path(name).is_dir():
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(name, "README.md")
    file = Path(str(path))
    return file.read_text(errors="replace") if file.is_file() else ""
