"""Model types of transformers: which class stands for one, and a configuration that is small enough to check."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from onnxeq.errors import CannotRun

__all__ = ["Kind", "class_named", "known", "reduced"]


@dataclass(frozen=True)
class Kind:
    """What stands for a model type: a family and the name of a class of transformers."""

    family: str
    architecture: str


_TASKS = (
    ("encoder-decoder", "SEQ_TO_SEQ_CAUSAL_LM"),
    ("speech encoder-decoder", "SPEECH_SEQ_2_SEQ"),
    ("encoder", "MASKED_LM"),
    ("decoder", "CAUSAL_LM"),
    ("text and vision", "ZERO_SHOT_IMAGE_CLASSIFICATION"),
    ("vision", "IMAGE_CLASSIFICATION"),
    ("vision", "SEMANTIC_SEGMENTATION"),
    ("vision", "DEPTH_ESTIMATION"),
    ("vision", "OBJECT_DETECTION"),
    ("audio", "CTC"),
    ("audio", "AUDIO_CLASSIFICATION"),
)
"""Family and transformers' name of the task, in the order in which a model type's class is looked for."""

_MOST_PARAMETERS = 60_000_000
"""Beyond it a default configuration is reduced in width, too: float64 runs take eight bytes for each, several times."""

_TOO_MANY = 500_000_000

_LAYERS = 2

_DEPTH = dict.fromkeys(
    "num_hidden_layers num_layers n_layer n_layers num_decoder_layers num_encoder_layers".split()
    + "encoder_layers decoder_layers max_window_layers".split(),
    _LAYERS,
)

_WIDTH = {
    **dict.fromkeys("hidden_size d_model n_embd dim".split(), 256),
    **dict.fromkeys("intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim d_ff hidden_dim n_inner".split(), 512),
    **dict.fromkeys("num_attention_heads n_head n_heads encoder_attention_heads decoder_attention_heads".split(), 4),
    "num_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "d_kv": 64,
    "word_embed_proj_dim": 256,
    "pooler_hidden_size": 256,
    "moe_intermediate_size": 256,
    "num_local_experts": 4,
    "num_experts": 4,
}


@functools.cache
def known() -> Mapping[str, Kind]:
    """Model type -> what stands for it."""
    found: dict[str, Kind] = {}
    for family, task in _TASKS:
        for name, architecture in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES").items():
            first = architecture if isinstance(architecture, str) else architecture[0]
            if name in transformers.CONFIG_MAPPING:
                found.setdefault(name, Kind(family, first))
    return found


def class_named(architecture: str) -> Any:
    """A class of transformers, or ``None``."""
    return getattr(transformers, architecture, None)


def reduced(name: str) -> tuple[Any, str]:
    """A model type's default configuration with few layers, and narrow ones where it would be large.

    Raises:
        CannotRun: It stays too large.

    Returns:
        The configuration, and what was changed, ``num_hidden_layers 12 to 2, ...``.
    """
    usual = transformers.AutoConfig.for_model(name).to_dict()
    kind = class_named(known()[name].architecture)
    chosen: Any = None
    limits, size = dict[str, int](), 0
    for tried in ({}, _DEPTH, _DEPTH | _WIDTH):
        config = _configured(name, usual, tried)
        count = _parameters(kind, config)
        # Some can be built, but not to be counted: two layers of the usual width are taken for small enough.
        if chosen is None or (count and (count < size or not size)) or (config and not size and tried is _DEPTH):
            chosen, limits, size = config, tried, count
        if tried and 0 < size <= _MOST_PARAMETERS:
            break
    if chosen is None or size > _TOO_MANY:
        many = f"has {size / 1e9:.1f} billion parameters, reduced as far as its names tell" if size else "is refused"
        raise CannotRun(
            f"the default configuration of {name} {many}",
            hint="write a smaller configuration to a folder and name that: hf:FOLDER@seeded",
        )
    chosen.architectures = [known()[name].architecture]
    return chosen, ", ".join(_told(usual, _changes(usual, limits)))


def _configured(name: str, usual: Mapping[str, Any], limits: Mapping[str, int]) -> Any:
    """Made anew with the changed values, so that what is derived from them (a list of layer types) follows.

    ``None`` where the configuration does not take them.
    """
    try:
        return transformers.AutoConfig.for_model(name, **_changes(usual, limits))
    except Exception:  # each configuration checks its values in its own way
        return None


def _changes(usual: Mapping[str, Any], limits: Mapping[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    staged = isinstance(usual.get("depths"), (list, tuple))
    for key, value in usual.items():
        limit = limits.get(key)
        if isinstance(value, Mapping) and (key.endswith("config") or "model_type" in value):
            if inner := _changes(value, limits):
                found[key] = dict(value) | inner
        elif key == "depths" and staged:
            if max(value) > _LAYERS:
                found[key] = [min(depth, _LAYERS) for depth in value]
        elif limit is not None and type(value) is int and value > limit and not (staged and key in _DEPTH):
            found[key] = limit
    grouped = found.get("num_key_value_heads")
    if grouped and usual["num_key_value_heads"] == usual.get("num_attention_heads"):
        found["num_key_value_heads"] = found.get("num_attention_heads", grouped)
    return found


def _told(usual: Mapping[str, Any], changes: Mapping[str, Any], prefix: str = "") -> list[str]:
    told = []
    for key, value in changes.items():
        if isinstance(value, Mapping):
            different = {k: v for k, v in value.items() if usual[key].get(k) != v}
            told += _told(usual[key], different, f"{prefix}{key}.")
        else:
            told.append(f"{prefix}{key} {usual[key]} to {value}")
    return told


def _parameters(kind: Any, config: Any) -> int:
    """How many parameters a model has, without making any; 0 if it cannot be built so."""
    if config is None:
        return 0
    try:
        with torch.device("meta"):
            model = kind(config)
    except Exception:  # a width that does not divide, or a class that computes while it is built
        return 0
    return sum(p.numel() for p in model.parameters())
