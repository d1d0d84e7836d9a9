"""The native weights put back."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper

from onnxeq.weights import match, transplant
from onnxeq.weights.document import from_record, to_record


def _values(model: Any) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def _damage(w: dict[str, Any]) -> None:
    w["conv2.weight"][3] *= np.float32(1.002)
    w["conv1.bias"][7] += 1
    w["fc.weight"][[0, 1]] = w["fc.weight"][[1, 0]]


def test_what_was_damaged_is_as_before_bit_for_bit(nets: Any, native: dict[str, Any]) -> None:
    """A scaled channel of a fold, a folded bias and an exchanged row: the artifact's own recipe gives each back."""
    damaged = nets.folded(native, _damage)
    ledger = match(native, damaged)
    assert {e.initializer for e in ledger.near_misses} == {"conv2.weight", "conv1.bias", "fc.weight"}
    mended, right = _values(transplant(damaged, ledger, native)), _values(nets.folded(native))
    assert all(np.array_equal(mended[name], right[name]) for name in right)


def test_the_artifact_is_left_as_it_was(nets: Any, native: dict[str, Any]) -> None:
    """A copy is changed, and in it only what was asked for."""
    damaged = nets.folded(native, _damage)
    before = damaged.SerializeToString()
    one = _values(transplant(damaged, match(native, damaged), native, only=["fc.weight"]))
    assert damaged.SerializeToString() == before
    assert np.array_equal(one["fc.weight"], native["fc.weight"])
    assert np.array_equal(one["conv2.weight"], _values(damaged)["conv2.weight"])


def test_a_ledger_read_from_json_can_be_used(nets: Any, native: dict[str, Any]) -> None:
    """The record holds all but the arrays, which are derived anew."""
    damaged = nets.folded(native, _damage)
    ledger = match(native, damaged)
    again = from_record(to_record(ledger))
    assert again == ledger
    assert _values(transplant(damaged, again, native)).keys() == _values(damaged).keys()
    mended = _values(transplant(damaged, again, native))
    assert np.array_equal(mended["conv2.weight"], _values(nets.folded(native))["conv2.weight"])
