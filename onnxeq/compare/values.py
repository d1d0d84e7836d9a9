"""What a comparison of architectures takes and returns: frozen, typed, no heavy import.

A *layer* is what a reader of the model's paper would call one: a convolution with its padding and bias, a
normalisation, an activation. A *graph* holds the layers of one model in one canonical form, whichever layout, exporter
or spelling it came in. A *pair* is two graphs, what is different in them, and the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from onnxeq.compare.accuracy.values import Accuracy
from onnxeq.compare.function.values import Origin, Split
from onnxeq.compare.latency.reaching import reached
from onnxeq.compare.latency.values import Latency, Reached
from onnxeq.compat import StrEnum

__all__ = [
    "Architecture", "Attribute", "Comparison", "Difference", "Failure", "Graph", "Layer", "Pair", "Part", "Place",
    "ReceptiveField", "Same", "Side", "Topic", "Weight",
]  # fmt: skip

Attribute: TypeAlias = bool | int | float | str | tuple[int, ...]
"""A property of a layer. Sizes per spatial axis are tuples; padding is all begins, then all ends, as ONNX has it."""


@dataclass(frozen=True)
class Weight:
    """A stored tensor that a layer reads; of several in one role each holds the next rows.

    Attributes:
        role: ``weight``, ``recurrent weight``, ``bias``, ``scale``, ``shift``, ``mean``, ``variance``, ``position
            bias`` of an attention, ``constant``, or ``preprocessing`` for a constant that the input is scaled or
            shifted by before anything else.
        name: Its initializer, or, with ``.folded`` behind it, what the file computes from constants.
        elements: How many numbers it holds.
        viewed: The shape in which the stored tensor is to be seen first; empty for its own.
        axes: For each of those axes its place in the layer's own order, outputs first, channels before space; empty
            where they lie in that order. Of an axis of size 1 it tells nothing.
        part: Which rows of the first axis in the layer's own order are meant, where layers share a stored tensor.
    """

    role: str
    name: str
    elements: int
    viewed: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    part: tuple[int, int] | None = None

    @property
    def learned(self) -> bool:
        """Whether it counts as a parameter: what is counted in training (mean, variance) or beforehand does not."""
        return self.role not in ("mean", "variance", "preprocessing")


@dataclass(frozen=True)
class Layer:
    """One layer of a canonical graph.

    Attributes:
        kind: ``conv``, ``linear``, ``attention``, ``gru``, ``batch_norm``, ``relu``, ``add``, ``input``, ...;
            the name of the ONNX operator (``Resize``) for what has no name of its own here, or is used in a way that is
            not known.
        inputs: Positions in the graph of the layers that it reads.
        attributes: What it does, see :data:`Attribute`.
        shape: Of its result for one item, channels first, the batch (1) included.
        name: What its framework calls it, as far as the export tells.
        nodes: The ONNX nodes that it stands for.
        weights: The stored tensors that it reads.
        macs: Multiplications with an addition each, for one item.
        spelling: What is written otherwise than usual and means the same.
        value: The tensor of the file that holds its result; empty where none does.
        axes: Of each axis of that tensor, which axis of the result it is; -1 for a further one of size 1.
    """

    kind: str
    inputs: tuple[int, ...]
    attributes: Mapping[str, Attribute]
    shape: tuple[int, ...]
    name: str
    nodes: tuple[str, ...] = ()
    weights: tuple[Weight, ...] = ()
    macs: int = 0
    spelling: tuple[str, ...] = ()
    value: str = ""
    axes: tuple[int, ...] = ()

    @property
    def parameters(self) -> int:
        """Learned numbers that it reads."""
        return sum(w.elements for w in self.weights if w.learned)


@dataclass(frozen=True)
class Graph:
    """The layers of one model, in an order in which each comes after what it reads.

    Attributes:
        layers: The layers; model inputs are layers of the kind ``input``.
        outputs: Positions of those that are the model's outputs.
        nodes: Nodes in the file.
        literal: A digest for each literal node of the file, names aside, see :mod:`onnxeq.compare.literal`.
        notes: What a reader must know (a size that nobody told).
    """

    layers: tuple[Layer, ...]
    outputs: tuple[int, ...]
    nodes: int = 0
    literal: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReceptiveField:
    """How much of the input the elements of the last map see.

    Attributes:
        size: Pixels per spatial axis.
        stride: How many pixels lie between two of its elements, per axis.
        gated: Whether every element depends on the whole image as well, through a global pooling that the map is
            multiplied with (squeeze and excitation); the size is without that.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    gated: bool = False


@dataclass(frozen=True)
class Architecture:
    """The figures of one graph, for one item.

    Attributes:
        parameters: Learned numbers, each tensor once; a normalisation's running mean and variance are not counted.
        macs: Multiplications with an addition each, in convolutions and matrix products.
        activations: Elements of all results of convolutions and matrix products.
        depth: Most layers with a weight matrix or kernel on a way from an input to an output.
        layers: Number of layers, inputs not counted.
        kinds: How often each kind occurs, most frequent first.
        nodes: Nodes in the file.
        receptive: Of the last map with more than one element; ``None`` where there is none.
        inputs: Shape of each input.
        outputs: Shape of each output.
    """

    parameters: int
    macs: int
    activations: int
    depth: int
    layers: int
    kinds: Mapping[str, int]
    nodes: int
    receptive: ReceptiveField | None
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


class Part(StrEnum):
    """What a comparison is about."""

    ARCHITECTURE = "architecture"
    FUNCTION = "function"
    """The outputs for the same inputs, split into weights, graph and preprocessing."""
    ACCURACY = "accuracy"
    LATENCY = "latency"


class Same(StrEnum):
    """How two graphs compare, weights aside."""

    IDENTICAL = "identical"
    """Node by node the same, names aside."""
    EQUIVALENT = "equivalent after normalisation"
    """The canonical graphs are one graph."""
    DIFFERENT = "different"


class Topic(StrEnum):
    """What a difference is about, the most consequential first."""

    LAYERS = "layers"
    KERNEL = "kernel"
    GROUPS = "groups"
    WIDTH = "width"
    STRIDE = "stride"
    WIRING = "wiring"
    ATTENTION = "attention"
    RECURRENT = "recurrent"
    ACTIVATION = "activation"
    POOLING = "pooling"
    PADDING = "padding"
    NORMALISATION = "normalisation"
    CONSTANT = "constant"
    OTHER = "other"
    INPUT = "input"
    CLASSES = "classes"
    SOFTMAX = "softmax"
    BIAS = "bias"
    EPSILON = "epsilon"


@dataclass(frozen=True)
class Place:
    """Where a difference shows: the layer's name on either side, empty where there is none."""

    left: str
    right: str


@dataclass(frozen=True)
class Difference:
    """One difference between two graphs, with all places where it shows.

    Attributes:
        topic: What it is about.
        sentence: It in words.
        left: The value on the left side.
        right: The value on the right side.
        places: Where, in order.
    """

    topic: Topic
    sentence: str
    left: Any
    right: Any
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Side:
    """One of the models that are compared.

    Attributes:
        ref: As the user wrote it.
        name: What it is called in sentences: the reference without its weights, where that tells it from the others.
        graph: Its layers.
        architecture: Its figures.
        may_be_folded: Whether it is a file as somebody else wrote it, who may have folded BatchNorms into convolutions;
            what is exported here is not.
        about: What its framework says about itself, and the file's producer, opset and digest.
        notes: What a reader must know.
        random: Whether its weights are random.
    """

    ref: str
    name: str
    graph: Graph = field(repr=False)
    architecture: Architecture
    may_be_folded: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    random: bool = False


@dataclass(frozen=True)
class Failure:
    """A model that could not be had, and why."""

    ref: str
    reason: str


@dataclass(frozen=True)
class Pair:
    """Two models held against each other.

    Attributes:
        left: One's name.
        right: The other's.
        same: The verdict.
        differences: The most consequential first; empty unless the verdict is ``different``.
        normalised: What is written differently and means the same.
        notes: What could not be compared.
        aligned: Layers that have a counterpart.
        layers: Layers on either side.
        function: How far they are apart for the same inputs, and why; ``None`` where that was not asked for.
        not_split: Why it could not be told.
    """

    left: str
    right: str
    same: Same
    differences: tuple[Difference, ...]
    normalised: tuple[str, ...]
    notes: tuple[str, ...]
    aligned: int
    layers: tuple[int, int]
    function: Split | None = None
    not_split: str = ""

    def origins(self, *, random: bool = False) -> tuple[Origin, ...]:
        """What makes the outputs differ, the largest first; weights are left out where they are ``random``."""
        found = () if self.function is None else self.function.origins
        return tuple(o for o in found if not (random and o is Origin.WEIGHTS))


@dataclass(frozen=True)
class Comparison:
    """What :func:`onnxeq.compare` returns.

    Attributes:
        sides: The models, in the order in which they were named.
        pairs: Each two of them, those that differ most first.
        failures: Those that could not be had.
        environment: Versions and machine.
        accuracy: On labelled items; ``None`` where none are given.
        latency: What they cost to run; ``None`` where it was not asked for.
    """

    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    failures: tuple[Failure, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    latency: Latency | None = None

    @property
    def alike(self) -> bool:
        """Whether all could be had and no discrepancy was found, in architecture, outputs or accuracy.

        That random weights differ is none.
        """
        if self.failures or (self.accuracy is not None and self.accuracy.discrepancies):
            return False
        drawn = {side.name for side in self.sides if side.random}
        return all(
            pair.same is not Same.DIFFERENT and not pair.origins(random=bool(drawn & {pair.left, pair.right}))
            for pair in self.pairs
        )

    @property
    def reached(self) -> tuple[Reached, ...]:
        """What each accuracy costs, where both were measured."""
        if self.accuracy is None or self.latency is None:
            return ()
        return reached({m.model: m.top1.value for m in self.accuracy.measured}, self.latency)

    @property
    def whole(self) -> bool:
        """Whether everything that was asked for could be had of every model."""
        return not self.failures and (self.accuracy is None or not self.accuracy.missing)
