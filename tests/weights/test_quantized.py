"""Integers with a scale and a zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnxeq.weights import Relation, match


def _artifact(nets: Any, integers: Any, scale: Any, zero: Any) -> Any:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        helper.make_node("Gemm", ["x", "w"], ["y"], name="fc", transB=1),
    ]
    return nets.model_of(nodes, {"q": integers, "s": scale, "z": zero}, ["N", 12], "y")


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_rounding_to_steps_is_accounted_for_and_one_step_more_is_not(nets: Any, kind: Any) -> None:
    """Per channel, ``q = round(w/s) + z``: right as it is; one integer moved by two steps is a near miss."""
    weight = np.random.default_rng(0).standard_normal((6, 12)).astype(np.float32)
    scale = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
    zero = np.full(6, 0 if kind is np.int8 else 128, kind)
    info = np.iinfo(kind)
    q = np.clip(np.rint(weight / scale[:, None]) + zero[:, None], info.min, info.max).astype(kind)
    found = match({"fc.weight": weight}, _artifact(nets, q, scale, zero))
    assert not found.faults
    assert found.initializers_accounted == 3
    assert {e.relation for e in found.entries} == {Relation.QUANTIZED, Relation.GENERATED}
    q[3, 4] = 10 + zero[3] if abs(int(q[3, 4]) - int(zero[3]) - 10) > 2 else 20 + zero[3]
    (fault,) = match({"fc.weight": weight}, _artifact(nets, q, scale, zero)).faults
    assert (fault.initializer, fault.native) == ("q", "fc.weight")
    assert "[3, 4]" in fault.evidence
    assert numpy_helper.from_array(fault.expected).dims == [6, 12]
