"""Parts of a transformers model that are exported on their own: encoder, decoder, and either with its cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from onnxeq.errors import UsageError
from onnxeq.types import Dim, TensorSpec

from . import takes

__all__ = ["PARTS", "take"]

PARTS = ("encoder", "decoder", "with-past")


def take(model: Any, part: str) -> tuple[torch.nn.Module, tuple[TensorSpec, ...]]:
    """The part of a model and what it takes.

    Raises:
        UsageError: There is no such part, or the model is not made of parts.
    """
    if part not in PARTS:
        raise UsageError(f"'{part}' is no part of a model", hint=f"after # stands one of {', '.join(PARTS)}")
    composed = bool(model.config.is_encoder_decoder)
    if part == "with-past":
        if not model.can_generate() or (not composed and model.main_input_name != "input_ids"):
            raise UsageError(f"{type(model).__name__} is no decoder whose cache could be fed")
        cached = DecoderWithPast(model) if composed else WithPast(model)
        return cached, cached.takes()
    if not composed:
        raise UsageError(f"{type(model).__name__} is no encoder-decoder", hint="leave out what stands after #")
    specs = {spec.name: spec for spec in takes.of_model(model)}
    decoder_ids = specs.pop("decoder_input_ids")
    if part == "encoder":
        return model.get_encoder(), tuple(specs.values())
    hidden = TensorSpec("encoder_hidden_states", "float32", ("N", _encoded(model, specs), _width(model.config)))
    return Decoder(model), (decoder_ids, hidden, *_masks(specs))


def _width(config: Any) -> int:
    return takes.size_of(config, "d_model", "hidden_size", default=0)


def _masks(specs: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
    return (takes.mask("encoder_attention_mask"),) if "attention_mask" in specs else ()


def _encoded(model: Any, specs: Mapping[str, TensorSpec]) -> Dim:
    """How many positions the encoder hands on: as many as there are tokens, or those of a spectrogram's one length."""
    fixed = "input_features" in specs and "attention_mask" not in specs
    return int(model.config.max_source_positions) if fixed else "sequence"


class Decoder(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """What an encoder-decoder computes from the encoder's result."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, decoder_input_ids: Any, encoder_hidden_states: Any, encoder_attention_mask: Any = None
    ) -> dict[str, torch.Tensor]:
        """The logits for every position of ``decoder_input_ids``."""
        masks = {} if encoder_attention_mask is None else {"attention_mask": encoder_attention_mask}
        made = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoder_hidden_states),
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
            **masks,
        )
        return {"logits": made.logits}


class DecoderWithPast(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The decoder of an encoder-decoder with its cache as inputs and outputs.

    For each layer a key and a value of what it has decoded, ``[N,heads,past,size]``, and of what the encoder gave,
    ``[N,heads,sequence,size]``. The latter stand for the encoder's result, which is no input.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def takes(self) -> tuple[TensorSpec, ...]:
        """Tokens, the encoder's mask where there is one, and the cache."""
        config = self.model.config
        specs = {spec.name: spec for spec in takes.of_model(self.model)}
        heads = takes.size_of(config, "decoder_attention_heads", "num_heads", "num_attention_heads", default=1)
        size = takes.size_of(config, "d_kv", default=_width(config) // heads)
        depth = takes.size_of(config, "num_decoder_layers", "decoder_layers", "num_hidden_layers", default=1)
        lengths: dict[str, Dim] = {"decoder": "past_sequence", "encoder": _encoded(self.model, specs)}
        cache = tuple(
            TensorSpec(f"past_key_values.{layer}.{side}.{kind}", "float32", ("N", heads, length, size))
            for layer in range(depth)
            for side, length in lengths.items()
            for kind in ("key", "value")
        )
        return (specs["decoder_input_ids"], *_masks(specs), *cache)

    def forward(self, decoder_input_ids: Any, *others: Any) -> dict[str, torch.Tensor]:
        """The logits, and the decoder's part of the cache with the present positions added."""
        masks = {"attention_mask": others[0]} if len(others) % 4 else {}
        past = others[len(masks) :]
        cache = EncoderDecoderCache(
            DynamicCache(list(zip(past[0::4], past[1::4], strict=True))),
            DynamicCache(list(zip(past[2::4], past[3::4], strict=True))),
        )
        # Attention reads the encoder's keys and values from the cache; its result only says that there was an encoder.
        encoded = past[2].new_zeros(past[2].shape[0], past[2].shape[2], _width(self.model.config))
        made = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            decoder_input_ids=decoder_input_ids,
            past_key_values=cache,
            use_cache=True,
            **masks,
        )
        found = {"logits": made.logits}
        for place, layer in enumerate(made.past_key_values.self_attention_cache.layers):
            found[f"present.{place}.decoder.key"] = layer.keys
            found[f"present.{place}.decoder.value"] = layer.values
        return found


class WithPast(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A decoder with its cache as inputs and outputs: a key and a value ``[N,heads,past,size]`` for each layer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def takes(self) -> tuple[TensorSpec, ...]:
        """Tokens, a mask over past and present, and the cache."""
        config = self.model.config.get_text_config()
        heads = takes.size_of(config, "num_key_value_heads", "num_attention_heads", "n_head", default=1)
        every = takes.size_of(config, "num_attention_heads", "n_head", default=1)
        width = takes.size_of(config, "hidden_size", "n_embd", default=0)
        size = takes.size_of(config, "head_dim", default=width // every)
        shape = ("N", heads, "past_sequence", size)
        cache = tuple(
            TensorSpec(f"past_key_values.{layer}.{kind}", "float32", shape)
            for layer in range(config.num_hidden_layers)
            for kind in ("key", "value")
        )
        both = takes.mask("attention_mask", "past_sequence+sequence")
        return (takes.tokens("input_ids", config), both, *cache)

    def forward(self, input_ids: Any, attention_mask: Any, *past: Any) -> dict[str, torch.Tensor]:
        """The logits, and the cache with the present positions added."""
        cache = DynamicCache(list(zip(past[0::2], past[1::2], strict=True)))
        made = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True)
        found = {"logits": made.logits}
        for place, layer in enumerate(made.past_key_values.layers):
            found[f"present.{place}.key"], found[f"present.{place}.value"] = layer.keys, layer.values
        return found
