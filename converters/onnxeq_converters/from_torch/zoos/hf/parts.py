"""Parts of a transformers model that are exported on their own: encoder, decoder, decoder with its cache."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutput

from onnxeq.errors import UsageError
from onnxeq.types import TensorSpec

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
        if composed or model.main_input_name != "input_ids" or not model.can_generate():
            raise UsageError(f"{type(model).__name__} is no decoder whose cache could be fed")
        cached = WithPast(model)
        return cached, cached.takes()
    if not composed:
        raise UsageError(f"{type(model).__name__} is no encoder-decoder", hint="leave out what stands after #")
    specs = {spec.name: spec for spec in takes.of_model(model)}
    decoder_ids = specs.pop("decoder_input_ids")
    if part == "encoder":
        return model.get_encoder(), tuple(specs.values())
    width = takes.size_of(model.config, "d_model", "hidden_size", default=0)
    hidden = TensorSpec("encoder_hidden_states", "float32", ("N", "sequence", width))
    masks: tuple[TensorSpec, ...] = ()
    if "attention_mask" in specs:
        masks = (takes.mask("encoder_attention_mask"),)
    elif "input_features" in specs:
        hidden = TensorSpec(hidden.name, hidden.dtype, ("N", model.config.max_source_positions, width))
    return Decoder(model), (decoder_ids, hidden, *masks)


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
