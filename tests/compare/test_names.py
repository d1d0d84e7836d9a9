"""What a reader calls a layer, from what exporters leave of its name."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from onnxeq.compare.reading.names import reader_name, without_common_parts
from onnxeq.compare.reading.sketch import Draft
from onnxeq.compare.values import Weight


def _node(name: str, **notes: str) -> ir.Node:
    node = ir.Node("", "Conv", [], name=name, num_outputs=1)
    node.metadata_props.update(notes)
    return node


@pytest.mark.parametrize(
    ("weight", "node", "wanted"),
    [
        ("layer1.0.conv1.weight", "node_conv2d", "layer1.0.conv1"),
        ("resnet50_1/conv1_conv_1/convolution/ReadVariableOp/resource:0", "n", "resnet50_1/conv1_conv_1"),
        ("resnet50_1/conv1_bn_1/Cast_2/ReadVariableOp/resource:0", "n", "resnet50_1/conv1_bn_1"),
        ("", "/layer1/layer1.0/relu/Relu", "layer1.0.relu"),
        ("", "resnet50_1/conv1_relu_1/Relu", "resnet50_1/conv1_relu_1"),
        ("", "block/add;block/relu", "block"),
        ("", "n17", "n17"),
        ("", "", ""),
        ("table", "", ""),
        ("onnx::Conv_123", "/features/features.0/Conv", "features.0"),
    ],
)
def test_the_framework_s_own_name_is_found(weight: str, node: str, wanted: str) -> None:
    """Of torch's parameters and module paths, of TensorFlow's variables and operations: the layer, not its parts."""
    assert reader_name(weight, _node(node)) == wanted


def test_torch_says_which_module_a_node_comes_from() -> None:
    """The innermost module of the scopes that the exporter notes; what is no list tells nothing."""
    scopes = {"pkg.torch.onnx.name_scopes": "['', 'layer1', 'layer1.0', 'layer1.0.relu', 'relu_1']"}
    assert reader_name("", _node("node_relu_1", **scopes)) == "layer1.0.relu"
    assert reader_name("", _node("node_relu_1", **{"pkg.torch.onnx.name_scopes": "(" * 5000})) == "node_relu_1"


def test_what_all_names_share_is_left_out() -> None:
    """The model's own name before, the number of a copy behind; a name that lacks them stays."""
    weights = [Weight("weight", "w", 1)]
    drafts = [Draft("conv", [], {}, (1,), name, [], list(weights)) for name in ("net_1/a_conv_1", "net_1/b_conv_1")]
    drafts.append(Draft("add", [], {}, (1,), "net_1/sum"))
    without_common_parts(drafts)
    assert [d.name for d in drafts] == ["a_conv", "b_conv", "sum"]
