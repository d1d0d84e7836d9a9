"""How a reader finds a layer: its name, what kind of layer it is in words, and on which map it works."""

from __future__ import annotations

import math

from onnxeq.compare.kinds import CONVOLUTIONS
from onnxeq.compare.values import Graph, Layer

__all__ = ["called", "noun", "scale", "scales", "sizes"]

_NOUNS = {
    "batch_norm": "BatchNorm", "layer_norm": "LayerNorm", "group_norm": "GroupNorm", "instance_norm": "InstanceNorm",
    "lrn": "local response normalisation", "relu": "ReLU", "relu6": "ReLU6", "silu": "SiLU", "gelu": "GELU",
    "hard_swish": "hard swish", "hard_sigmoid": "hard sigmoid", "leaky_relu": "leaky ReLU", "prelu": "PReLU",
    "max_pool": "max pooling", "avg_pool": "average pooling", "global_avg_pool": "global average pooling",
    "global_max_pool": "global max pooling", "add": "addition", "mul": "multiplication", "concat": "concatenation",
    "attention": "attention layer", "gru": "GRU", "lstm": "LSTM", "rnn": "RNN", "linear": "dense layer",
    "scale": "scaling", "shift": "shift",
}  # fmt: skip


def sizes(values: tuple[int, ...]) -> str:
    """``3x3``."""
    return "x".join(str(n) for n in values)


def noun(layer: Layer) -> str:
    """What a reader calls such a layer: ``3x3 convolution``."""
    kernel = layer.attributes.get("kernel")
    if layer.kind in CONVOLUTIONS and isinstance(kernel, tuple):
        groups = layer.attributes.get("groups", 1)
        kind = {"conv": "convolution", "depthwise": "depthwise convolution"}.get(layer.kind, "transposed convolution")
        grouped = "grouped " if layer.kind == "conv" and groups != 1 else ""
        return f"{sizes(kernel)} {grouped}{kind}"
    if layer.kind in ("max_pool", "avg_pool") and isinstance(kernel, tuple):
        return f"{sizes(kernel)} {_NOUNS[layer.kind]}"
    return _NOUNS.get(layer.kind, layer.kind.replace("_", " "))


def called(layer: Layer) -> str:
    """The layer's name, or what it is where it has none."""
    return layer.name or (layer.nodes[0] if layer.nodes and layer.nodes[0] else noun(layer))


def scale(graph: Graph, index: int) -> int:
    """By how much the map that a layer gives is smaller than the input, along the last axis; 0 where it is no map."""
    layer = graph.layers[index]
    whole = next((i.shape for i in graph.layers if i.kind == "input" and len(i.shape) == len(layer.shape)), None)
    if whole is None or len(layer.shape) < 3 or math.prod(layer.shape[2:]) <= 1 or min(whole[2:]) < 1:
        return 0
    ratio = whole[-1] / layer.shape[-1]
    halved = 2 ** max(0, round(math.log2(ratio)))
    return halved if abs(ratio / halved - 1) < _ODD else max(1, round(ratio))


_ODD = 0.2
"""How far the maps of an input of odd size may be from halving at each step: 299 pixels become 8 in five steps."""


def scales(found: list[int]) -> str:
    """The maps that a difference shows on: ``at 1/8, 1/16 and 1/32 of the input``; empty where that tells nothing."""
    known = sorted({n for n in found if n})
    if not known:
        return ""
    parts = [f"1/{n}" if n > 1 else "full size" for n in known]
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"at {listed} of the input" if known != [1] else "at the size of the input"
