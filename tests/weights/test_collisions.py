"""Folded biases that get one name (pytorch#166797, pytorch#174042): one convolution reads another's bias."""

from __future__ import annotations

from typing import Any

import onnx

from onnxeq.weights import match


def _collide(model: onnx.ModelProto) -> onnx.ModelProto:
    """After folding, the second convolution's bias got the first one's name, and only one was kept."""
    for node in model.graph.node:
        if node.name == "conv2":
            node.input[2] = "conv1.bias"
    kept = [t for t in model.graph.initializer if t.name != "conv2.bias"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def test_the_shared_bias_is_named(nets: Any) -> None:
    """The initializer is right where it belongs and a near miss at the other convolution, which is named."""
    native = nets.native(0)
    for reference in (None, nets.unfolded(native)):
        (fault,) = match(native, _collide(nets.folded(native)), reference=reference).faults
        assert fault.initializer == "conv1.bias"
        assert fault.native == "conv2.bias"
        assert "conv1" in fault.evidence
        assert "Conv conv2" in fault.evidence


def test_without_biases_of_their_own_too(nets: Any) -> None:
    """The released exporters' case: convolutions without bias, whose folded biases collide."""
    native = nets.native(1, bias=False)
    (fault,) = match(native, _collide(nets.folded(native))).faults
    assert fault.initializer == "conv1.bias"
    assert "bn2" in " ".join(fault.natives)


def test_equal_values_are_no_collision(nets: Any) -> None:
    """Two convolutions that rightly share one initializer, because their biases are equal, are no fault."""
    native = nets.native(2)
    for part in ("weight", "bias", "running_mean", "running_var"):
        native[f"bn2.{part}"] = native[f"bn1.{part}"].copy()
    native["conv2.bias"] = native["conv1.bias"].copy()
    assert not match(native, _collide(nets.folded(native))).faults
