"""What is said of layers by their kind, in one place."""

from __future__ import annotations

__all__ = [
    "ACTIVATIONS", "COMMUTATIVE", "CONVOLUTIONS", "FAMILIES", "FOLDS", "JOINS", "NORMS", "POOLS", "RECURRENT",
    "WEIGHTED", "family",
]  # fmt: skip

CONVOLUTIONS = frozenset({"conv", "depthwise", "conv_transpose"})
FOLDS = CONVOLUTIONS | {"linear"}
"""Layers into which a normalisation behind them can be folded."""

RECURRENT = frozenset({"gru", "lstm", "rnn"})
WEIGHTED = FOLDS | RECURRENT
"""Layers with a kernel or a matrix: those that depth counts."""

NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "lrn"})
POOLS = frozenset({"max_pool", "avg_pool", "global_avg_pool", "global_max_pool"})
ACTIVATIONS = frozenset(
    {"relu", "relu6", "clip", "sigmoid", "tanh", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish",
     "hard_swish", "hard_sigmoid", "softplus", "softsign", "thresholded_relu"}
)  # fmt: skip
COMMUTATIVE = frozenset({"add", "mul", "max", "min"})
JOINS = COMMUTATIVE | {"concat", "sub", "div", "matmul"}
"""Layers where ways through the network come together."""

FAMILIES: dict[str, frozenset[str]] = {
    "convolution": CONVOLUTIONS,
    "dense": frozenset({"linear"}),
    "attention": frozenset({"attention"}),
    "recurrent": RECURRENT,
    "normalisation": NORMS,
    "activation": ACTIVATIONS,
    "pooling": POOLS,
    "softmax": frozenset({"softmax", "log_softmax"}),
    "constant": frozenset({"scale", "shift", "rsub", "rdiv"}),
    "sum": frozenset({"add"}),
    "product": frozenset({"mul"}),
    "concatenation": frozenset({"concat"}),
    "input": frozenset({"input"}),
}
"""Layers that may stand in each other's place; what is in none is a family of its own kind."""

_FAMILY = {kind: name for name, kinds in FAMILIES.items() for kind in kinds}


def family(kind: str) -> str:
    """The family of a kind."""
    return _FAMILY.get(kind, kind)
