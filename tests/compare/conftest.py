"""Small networks built node by node, with weights that are the same for every way to write one network."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.compare.figures import figures
from onnxeq.compare.reading.opening import read_graph
from onnxeq.compare.values import Graph, Pair, Side
from onnxeq.compare.verdicts import compare_pair


class Net:
    """A graph in the making. Each method adds nodes and returns the name of the result."""

    def __init__(self, *shape: int | str, opset: int = 17) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, np.ndarray] = {}
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]

    def node(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """One node with one output."""
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def store(self, name: str, value: Any) -> str:
        """A stored tensor as given."""
        self.stored[name] = np.asarray(value)
        return name

    def weight(self, name: str, *shape: int, positive: bool = False) -> str:
        """A random float32 tensor that depends on its name alone."""
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        drawn = rng.standard_normal(shape) * 0.3
        return self.store(name, (np.abs(drawn) + 0.5 if positive else drawn).astype(np.float32))

    def conv(
        self, x: str, name: str, inner: int, out: int, kernel: int, stride: int = 1, pads: Sequence[int] | None = None,
        *, bias: bool = False, groups: int = 1, **attributes: Any,
    ) -> str:  # fmt: skip
        """A convolution; by default padded so that a stride of 1 keeps the size."""
        reads = [x, self.weight(f"{name}.weight", out, inner // groups, kernel, kernel)]
        if bias:
            reads.append(self.weight(f"{name}.bias", out))
        if "auto_pad" not in attributes:
            attributes["pads"] = [kernel // 2] * 4 if pads is None else list(pads)
        return self.node("Conv", reads, strides=[stride] * 2, kernel_shape=[kernel] * 2, group=groups, **attributes)

    def norm(self, x: str, name: str, channels: int, epsilon: float = 1e-5) -> str:
        """BatchNormalization."""
        held = [self.weight(f"{name}.{part}", channels, positive=part in ("weight", "running_var"))
                for part in ("weight", "bias", "running_mean", "running_var")]  # fmt: skip
        return self.node("BatchNormalization", [x, *held], epsilon=epsilon)

    def dense(self, x: str, name: str, inner: int, out: int) -> str:
        """A dense layer with a bias."""
        weight, bias = self.weight(f"{name}.weight", out, inner), self.weight(f"{name}.bias", out)
        return self.node("Gemm", [x, weight, bias], transB=1)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The checked model."""
        tensors = [numpy_helper.from_array(value, name) for name, value in self.stored.items()]
        given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, given, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)


def network(
    *,
    stem: int = 7,
    first: bool = False,
    epsilon: float = 1e-5,
    bias: bool = False,
    activation: Callable[[Net, str], str] | None = None,
    pool: str = "MaxPool",
    stem_pads: Sequence[int] | None = None,
    classes: int = 10,
    softmax: bool = False,
    groups: int = 1,
    width: int = 8,
    norms: bool = True,
    extra: bool = False,
    size: int = 32,
    outer: bool = True,
) -> onnx.ModelProto:
    """A stem, a bottleneck block with a stride of 2 and a shortcut, a head: what differs is told by keywords.

    Args:
        stem: Kernel of the first convolution, whose stride is 2.
        first: Whether the block's stride is on its first convolution.
        epsilon: Of all normalisations.
        bias: Whether convolutions have one.
        activation: What stands for Relu.
        pool: The pooling behind the stem.
        stem_pads: Padding of the first convolution.
        classes: Outputs of the head.
        softmax: Whether it ends in one.
        groups: Of the 3x3 convolution.
        width: Channels inside the block.
        norms: Whether convolutions are followed by BatchNormalization.
        extra: Whether a 3x3 convolution with its normalisation and activation follows the block.
        size: Height and width of the input.
        outer: Whether the block has its addition's shortcut from its own input, else from the stem's activation.
    """
    net = Net(1, 3, size, size)
    act = activation or (lambda n, x: n.node("Relu", [x]))

    def conv(x: str, name: str, inner: int, out: int, kernel: int, stride: int = 1, **more: Any) -> str:
        y = net.conv(x, name, inner, out, kernel, stride, bias=bias, **more)
        return net.norm(y, f"{name}.norm", out, epsilon) if norms else y

    stemmed = act(net, conv("x", "stem", 3, 16, stem, 2, pads=stem_pads))
    x = net.node(pool, [stemmed], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    y = act(net, conv(x, "block.1", 16, width, 1, 2 if first else 1))
    y = act(net, conv(y, "block.2", width, width, 3, 1 if first else 2, groups=groups))
    y = conv(y, "block.3", width, 32, 1)
    short = conv(x if outer else stemmed, "block.0", 16, 32, 1, 2 if outer else 4)
    x = act(net, net.node("Add", [y, short]))
    if extra:
        x = act(net, conv(x, "more", 32, 32, 3))
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x])])
    x = net.dense(x, "head", 32, classes)
    return net.model(net.node("Softmax", [x]) if softmax else x)


Read = Callable[..., Graph]
Held = Callable[..., Pair]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The canonical graph of a model."""

    def run(model: onnx.ModelProto, **shapes: Sequence[int]) -> Graph:
        path = tmp_path / "read.onnx"
        path.write_bytes(model.SerializeToString())
        return read_graph(path, shapes)

    return run


@pytest.fixture
def held(read: Read) -> Held:
    """Two models held against each other, as A and B; ``files`` says that they may have been folded."""

    def run(a: onnx.ModelProto, b: onnx.ModelProto, *, files: bool = False) -> Pair:
        sides = [Side(n, n, graph, figures(graph), files) for n, graph in (("A", read(a)), ("B", read(b)))]
        return compare_pair(*sides)

    return run
