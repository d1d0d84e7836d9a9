"""What a transformers model takes: from its configuration, and from the parameters of its ``forward``."""

from __future__ import annotations

import inspect
from typing import Any

from onnxeq.types import Dim, TensorSpec, ValueRange

__all__ = ["mask", "of_model", "size_of", "tokens"]

_PIXELS = ValueRange(-2.118, 2.64)
"""Pixels 0 to 1 after the ImageNet mean and deviation, which most image processors take."""

_SAMPLES = 8000
"""Half a second at 16 kHz."""


def of_model(model: Any) -> tuple[TensorSpec, ...]:
    """The inputs that a user gives: tokens with their mask, pixels, samples or features.

    Text has a dynamic length; pictures and sound have the size of the configuration.
    """
    config, takes = model.config, inspect.signature(model.forward).parameters
    main = model.main_input_name
    text = _config_for(config, "text")
    specs: list[TensorSpec] = []
    if main == "input_ids" or ("input_ids" in takes and "pixel_values" in takes and hasattr(config, "text_config")):
        specs += _text(text, takes)
    if "pixel_values" in takes:
        specs.append(_pixels(_config_for(config, "vision")))
    if main == "input_values":
        specs.append(_samples(config))
    if main == "input_features":
        specs.append(_features(config))
    if config.is_encoder_decoder and "decoder_input_ids" in takes:
        specs.append(tokens("decoder_input_ids", _config_for(config, "decoder"), "decoder_sequence"))
    order = {name: place for place, name in enumerate(takes)}
    return tuple(sorted(specs, key=lambda spec: order.get(spec.name, len(order))))


def tokens(name: str, config: Any, axis: str = "sequence") -> TensorSpec:
    """``int64[N,axis]`` below the size of the vocabulary."""
    return TensorSpec(name, "int64", ("N", axis), ValueRange(0, size_of(config, "vocab_size", default=2)))


def mask(name: str, axis: str = "sequence") -> TensorSpec:
    """``int64[N,axis]`` of zeros and ones."""
    return TensorSpec(name, "int64", ("N", axis), ValueRange(0, 2))


def size_of(config: Any, *names: str, default: int) -> int:
    """The first of some sizes that the configuration has."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return default


def _config_for(config: Any, part: str) -> Any:
    """The configuration of one part of a composed model; the whole one elsewhere."""
    for name in (f"{part}_config", f"{part}"):
        if getattr(getattr(config, name, None), "to_dict", None) is not None:
            return getattr(config, name)
    return config


def _text(config: Any, takes: Any) -> list[TensorSpec]:
    specs = [tokens("input_ids", config)]
    if "attention_mask" in takes:
        specs.append(mask("attention_mask"))
    if "token_type_ids" in takes and (kinds := size_of(config, "type_vocab_size", default=0)) > 0:
        specs.append(TensorSpec("token_type_ids", "int64", ("N", "sequence"), ValueRange(0, kinds)))
    return specs


def _pixels(config: Any) -> TensorSpec:
    size: Any = getattr(config, "image_size", None)
    if isinstance(size, dict):
        size = [size.get("height", 224), size.get("width", 224)]
    sides: tuple[Dim, ...] = tuple(size) if isinstance(size, (list, tuple)) else (size or 224,) * 2
    channels = size_of(config, "num_channels", "in_channels", default=3)
    return TensorSpec("pixel_values", "float32", ("N", channels, *sides), _PIXELS)


def _samples(config: Any) -> TensorSpec:
    bins, frames = getattr(config, "num_mel_bins", None), getattr(config, "max_length", None)
    shape: tuple[Dim, ...] = ("N", frames, bins) if bins and frames else ("N", _SAMPLES)
    return TensorSpec("input_values", "float32", shape)


def _features(config: Any) -> TensorSpec:
    """Whisper's spectrogram is ``[N,bins,frames]`` of one length; others take ``[N,frames,bins]`` of any."""
    bins = size_of(config, "num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", default=80)
    if hasattr(config, "max_source_positions") and hasattr(config, "num_mel_bins"):
        return TensorSpec("input_features", "float32", ("N", bins, 2 * config.max_source_positions))
    return TensorSpec("input_features", "float32", ("N", 64, bins))
