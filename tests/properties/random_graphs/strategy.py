"""The strategy: an opset, some inputs, then nodes of drawn families."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from . import compound, elementwise, reductions, shapes, windows
from .builder import Builder, Sample
from .runtime import OLDEST, newest_opset

__all__ = ["FAMILIES", "models"]

FAMILIES: dict[str, tuple[Callable[[Builder], Any], ...]] = {
    "elementwise": (elementwise.unary, elementwise.binary, elementwise.variadic, elementwise.activation),
    "discrete": (
        elementwise.comparison, elementwise.ternary, elementwise.rounding, elementwise.integral, reductions.arg,
        reductions.top_k,
    ),
    "windows": (
        windows.conv, windows.conv_transpose, windows.max_pool, windows.average_pool, windows.global_pool,
    ),
    "linear": (windows.matmul, windows.gemm, windows.einsum),
    "resize": (windows.resize,),
    "reductions": (reductions.reduction, reductions.softmax, reductions.cumulative),
    "normalizations": (reductions.normalization,),
    "shapes": (
        shapes.reshape, shapes.transpose, shapes.slices, shapes.pad, shapes.concat, shapes.split, shapes.squeeze,
        shapes.expand_tile, shapes.gather, shapes.scatter, shapes.depth_space, shapes.misc,
    ),
    "compound": (compound.recurrent, compound.quantized, compound.branch, compound.loop, compound.scan),
}  # fmt: skip
"""What a node may be, by family; each adds one node, or a few."""


@st.composite
def models(draw: Callable[..., Any], families: Sequence[str] = tuple(FAMILIES), most: int = 15) -> Sample:
    """A valid model of up to ``most`` nodes from the given families, with two feeds."""
    builder = Builder(draw, draw(st.integers(OLDEST, newest_opset())))
    for _ in range(builder.integer(1, 3)):
        builder.fresh(builder.shape())
    makers = [maker for family in families for maker in FAMILIES[family]]
    wanted = builder.integer(3, most)
    for _ in range(2 * wanted):
        if len(builder.nodes) >= wanted:
            break
        builder.choice(makers)(builder)
    while not builder.nodes:
        builder.node("Relu", [builder.fresh((2,))])
    return builder.finish()
