"""What compare reads out of torchvision's models, against what their modules say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import onnxeq
from onnxeq.compare.figures import figures
from onnxeq.compare.reading.opening import read_graph
from onnxeq.compare.values import Graph, Layer, Same

pytestmark = pytest.mark.torch


def _exported(module: Any, path: Path, size: int, *, dynamo: bool = False) -> Path:
    """The module as torch's exporter writes it when nothing is to be folded."""
    import torch

    x = torch.zeros(1, 3, size, size)
    if dynamo:
        torch.onnx.export(module.eval(), (x,), path, dynamo=True, optimize=False, verbose=False)
    else:
        training = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(module.eval(), (x,), path, dynamo=False, training=training, do_constant_folding=False)
    return path


def _named(graph: Graph, kinds: tuple[str, ...]) -> dict[str, Layer]:
    return {layer.name: layer for layer in graph.layers if layer.kind in kinds}


def _same_convolution(module: Any, layer: Layer) -> None:
    held = layer.attributes
    assert held["kernel"] == tuple(module.kernel_size)
    assert held["strides"] == tuple(module.stride)
    assert held["pads"] == tuple(module.padding) * 2
    assert held["dilations"] == tuple(module.dilation)
    assert (held["groups"], held["in"], held["out"]) == (module.groups, module.in_channels, module.out_channels)
    assert held["bias"] is (module.bias is not None)
    assert layer.kind == ("depthwise" if module.groups == module.in_channels > 1 else "conv")


@pytest.mark.parametrize(
    ("name", "activations"),
    [
        # torchvision.models.resnet.Bottleneck runs its one ReLU three times; 16 blocks and the stem
        ("resnet50", {"relu": 1 + 3 * 16}),
        # ReLU6 in the stem, in the head, in each of 17 blocks once behind the depthwise convolution, and in 16 of them
        # behind the expansion that the first does not have
        ("mobilenet_v2", {"relu6": 1 + 1 + 17 + 16}),
    ],
)
def test_layers_are_what_the_modules_say(name: str, activations: dict[str, int], tmp_path: Path) -> None:
    """Every convolution, BatchNorm and dense layer of the module tree is a layer of that name with its attributes, and
    there are no others; the parameters are those that torch counts.
    """
    from torch import nn
    from torchvision import models

    module = models.get_model(name)
    graph = read_graph(_exported(module, tmp_path / "net.onnx", 64))
    convolutions, norms = _named(graph, ("conv", "depthwise")), _named(graph, ("batch_norm",))
    dense = _named(graph, ("linear",))
    wanted = {n: m for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    assert convolutions.keys() == wanted.keys()
    for path, conv in wanted.items():
        _same_convolution(conv, convolutions[path])
    batch = {n: m for n, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {n: layer.attributes["epsilon"] for n, layer in norms.items()} == {n: m.eps for n, m in batch.items()}
    heads = {n: (m.in_features, m.out_features) for n, m in module.named_modules() if isinstance(m, nn.Linear)}
    assert {n: (la.attributes["in"], la.attributes["out"]) for n, la in dense.items()} == heads
    found = figures(graph)
    assert found.parameters == sum(p.numel() for p in module.parameters())
    assert {kind: found.kinds[kind] for kind in activations} == activations
    assert "softmax" not in found.kinds


class _Block:
    """Makes the module of the next test where torch is there."""

    @staticmethod
    def make() -> Any:
        import torch
        from torch import nn

        class Small(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
                self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.SiLU())
                self.pool = nn.AdaptiveAvgPool2d(1)
                self.head = nn.Linear(16, 5)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = self.stem(x)
                x = torch.cat([x, x + self.deep(x)], 1)
                return torch.softmax(self.head(torch.flatten(self.pool(x), 1)), 1)

        torch.manual_seed(3)
        return Small()


def test_two_exporters_write_one_network(tmp_path: Path) -> None:
    """The same module by torch's two exporters: other nodes, the same layers."""
    module = _Block.make()
    old = _exported(module, tmp_path / "old.onnx", 16)
    new = _exported(module, tmp_path / "new.onnx", 16, dynamo=True)
    found = onnxeq.compare(old, new, parts=["architecture"])
    (pair,) = found.pairs
    assert pair.same is Same.EQUIVALENT, [d.sentence for d in pair.differences]
    assert {s.architecture.parameters for s in found.sides} == {sum(p.numel() for p in module.parameters())}
    kinds = found.sides[0].architecture.kinds
    assert {k: kinds.get(k) for k in ("hard_swish", "relu6", "silu", "depthwise", "softmax")} == dict.fromkeys(
        ("hard_swish", "relu6", "silu", "depthwise", "softmax"), 1
    )


def test_a_live_module_is_compared_with_its_own_export(tmp_path: Path) -> None:
    """Exported anew, unfolded, from memory: nothing is different from the file, whose name the report bears."""
    module = _Block.make()
    path = _exported(module, tmp_path / "old.onnx", 16)
    found = onnxeq.compare(module, path, shapes={"x": (1, 3, 16, 16)}, parts=["architecture"])
    assert [s.name for s in found.sides] == ["Small", path.name]
    assert found.alike, [d.sentence for d in found.pairs[0].differences]


@pytest.mark.slow
def test_resnet50_differs_from_the_onnx_zoos_in_its_softmax_alone(tmp_path: Path) -> None:
    """Caffe2's ResNet-50 has its strides on the 3x3 convolutions, like torchvision's; it has a softmax besides."""
    from torchvision import models

    path = _exported(models.resnet50(), tmp_path / "resnet50.onnx", 224)
    (pair,) = onnxeq.compare(path, "onnx-zoo:light_resnet50@seeded", parts=["architecture"]).pairs
    assert [(d.topic.value, d.sentence) for d in pair.differences] == [
        ("softmax", f"onnx-zoo:light_resnet50 ends in a softmax, {path.name} gives what goes into it")
    ]
