"""Naming and flattening of what a module returns."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest

from onnxeq.errors import UnusableModel

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")


def _names(value):
    from onnxeq_converters.from_torch.outputs import flatten

    return list(flatten(value))


def test_single_tensor_is_output():
    """flatten(t) = {output: t}."""
    assert _names(torch.zeros(1)) == ["output"]


def test_nested_names_follow_keys_fields_and_places():
    """A path of keys, fields and indices becomes one dotted name, in pytree order."""
    pair = namedtuple("pair", "logits aux")
    t = torch.zeros(1)
    assert _names((t, [t, t])) == ["output_0", "output_1.0", "output_1.1"]
    assert _names(OrderedDict(out=t, aux={"z": t, "a": t})) == ["out", "aux.z", "aux.a"]
    assert _names(pair(t, None)) == ["logits"]
    assert _names([{"boxes": t}]) == ["output_0.boxes"]


def test_dataclass_fields_and_plain_values():
    """A dataclass gives its fields; None, numbers and strings are dropped as the exporter drops them."""

    @dataclass
    class Result:
        logits: object
        hidden: object = None
        loss: float = 0.0

    assert _names(Result(torch.zeros(1))) == ["logits"]


def test_an_output_that_cannot_be_compared_is_refused():
    """A leaf that is no tensor and no plain value raises and is not left out."""
    with pytest.raises(UnusableModel, match="cache is a object"):
        _names({"cache": object()})
