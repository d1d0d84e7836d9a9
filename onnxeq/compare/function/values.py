"""What the comparison of two models' functions gives: frozen, typed, no heavy import."""

from __future__ import annotations

from dataclasses import dataclass

from onnxeq.compat import StrEnum

__all__ = ["Effect", "Origin", "Split"]


class Origin(StrEnum):
    """Where a difference between two models' outputs comes from."""

    WEIGHTS = "weights"
    GRAPH = "graph"
    PREPROCESSING = "preprocessing"


@dataclass(frozen=True)
class Effect:
    """What one exchange does to the results.

    Attributes:
        origin: What was exchanged.
        base: Whose graph, weights and pictures the other run is held against, in words.
        relative: Root mean square of the movement over that of the results, over all inputs.
        max_abs: The largest movement.
        ratio: The root mean square in units of the constant floor: of what storing constants in float32 does, and
            between graphs with the same weights of what storing the other constants does.
        counts: Whether that is more than the floor explains.
        top1_changes: Inputs whose largest class is another one; ``None`` where the results are no row of classes.
        missing: Why it could not be told; then the figures are NaN.
    """

    origin: Origin
    base: str
    relative: float
    max_abs: float
    ratio: float
    counts: bool
    top1_changes: int | None = None
    missing: str = ""


@dataclass(frozen=True)
class Split:
    """How far two models are apart, and why.

    With ``A`` and ``B`` the graphs, ``a`` and ``b`` their weights and ``x`` an input, the weights' effect is that from
    ``A(a,x)`` to ``A(b,x)`` and from ``B(b,x)`` to ``B(a,x)``; the graph's from ``A(a,x)`` to ``B(a,x)`` and from
    ``B(b,x)`` to ``A(b,x)``; that of preprocessing from ``A(a,x)`` to ``A(a,y)`` and from ``B(b,y)`` to ``B(b,x)``,
    ``y`` being the same picture as the other model's recipe prepares it. All of it is computed in float64.

    Attributes:
        whole: Whether the models were compared from their inputs to their outputs, a last softmax aside; otherwise
            the largest part that they have in common was.
        begins: Name of the first layer of that part, on the left.
        ends: Name of the last one.
        layers: Layers of that part, on either side.
        share: Share of the left model's parameters that lie in it.
        inputs: How many inputs were tried.
        total: ``A(a,x)`` against ``B(b,y)``; its origin is that of the largest effect.
        effects: Each origin, from either side.
        identical: Tensors that hold the same numbers.
        tensors: Tensors that could be exchanged.
        notes: What a reader must know.
    """

    whole: bool
    begins: str
    ends: str
    layers: tuple[int, int]
    share: float
    inputs: int
    total: Effect
    effects: tuple[Effect, ...]
    identical: int
    tensors: int
    notes: tuple[str, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        """What makes the difference, the largest effect first; empty where there is none."""
        sizes = {o: max((e.relative for e in self.effects if e.origin is o and e.counts), default=0.0) for o in Origin}
        return tuple(sorted((o for o in Origin if sizes[o] > 0), key=lambda o: -sizes[o]))
