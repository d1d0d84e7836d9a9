"""Items as models take them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxeq.compare.accuracy.fitting import FREE_BATCH, fit
from onnxeq.errors import BadInputs
from onnxeq.types import Dim, TensorSpec


def _spec(*shape: Dim, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("x", dtype, shape)


def _item(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "declared", "turn", "made"),
    [
        ((3, 8, 9), ("N", 3, 8, 9), "", (2, 3, 8, 9)),
        ((8, 9, 3), ("N", 3, 8, 9), "channels first", (2, 3, 8, 9)),
        ((3, 8, 9), ("N", 8, 9, 3), "channels last", (2, 8, 9, 3)),
        ((8, 9), ("N", 1, 8, 9), "an axis for one channel added first", (2, 1, 8, 9)),
        ((8, 9), ("N", 8, 9, 1), "an axis for one channel added last", (2, 8, 9, 1)),
        ((1, 8, 9), ("N", 8, 9), "its first axis of one channel left out", (2, 8, 9)),
        ((8, 9, 1), ("N", 8, 9), "its last axis of one channel left out", (2, 8, 9)),
    ],
)
def test_axes_are_brought_into_the_models_order(
    shape: tuple[int, ...], declared: tuple[Dim, ...], turn: str, made: tuple[int, ...]
) -> None:
    """The declared shape says where channels stand; each value stays at its pixel."""
    item = _item(*shape)
    how = fit(item, _spec(*declared))
    given = how.input([item, item + 1])
    assert (how.turn, given.shape, how.batch, how.padded) == (turn, made, FREE_BATCH, False)
    pixels = sorted(given[0].reshape(-1).tolist())
    assert pixels == sorted(item.reshape(-1).tolist())
    if turn == "channels first":
        assert np.array_equal(given[0], item.transpose(2, 0, 1))


def test_a_fixed_batch_is_filled_up() -> None:
    """A model of four takes three items and the last one again."""
    items = [_item(2, 2) + i for i in range(3)]
    how = fit(items[0], _spec(4, 2, 2))
    assert (how.batch, how.padded) == (4, True)
    assert how.input(items)[:, 0, 0].tolist() == [0, 1, 2, 2]


def test_a_recipes_layout_decides_where_sizes_do_not() -> None:
    """NHWC pictures of 3x3 for a model that takes NCHW of any size."""
    item = _item(3, 3, 3)
    spec = _spec("N", "a", "b", "c")
    assert fit(item, spec, layout="NHWC", wanted="NCHW").turn == "channels first"
    assert fit(item, spec, layout="CHW", wanted="NCHW").turn == ""
    assert fit(item, spec).turn == ""


def test_floats_take_the_models_precision() -> None:
    """float32 for a float16 model, 8-bit levels of a picture for a float one."""
    assert fit(_item(2, 2), _spec("N", 2, 2, dtype="float16")).input([_item(2, 2)]).dtype == np.float16
    levels = _item(3, 2, 2, dtype="uint8")
    assert fit(levels, _spec("N", 3, 2, 2), layout="NCHW").input([levels]).dtype == np.float32


@pytest.mark.parametrize(
    ("item", "spec", "said"),
    [
        (_item(3, 8, 8), _spec("N", 3, 9, 9), "it takes float32[N,3,9,9], and an item is float32[3,8,8]"),
        (_item(8), _spec("N", 3, 9, 9), "and an item is float32[8]"),
        (_item(8, dtype="int64"), _spec("N", 8), "convert the items: x.astype('float32')"),
        (_item(8), _spec("N", 8, dtype="int64"), "convert the items: x.astype('int64')"),
        (_item(3, 8, 8), _spec("N", 3, 8, 8, dtype="sequence"), "it takes sequence[N,3,8,8]"),
    ],
)
def test_what_does_not_fit_is_told_with_both(item: np.ndarray, spec: TensorSpec, said: str) -> None:
    """Shape and element type of both; integers are no floats."""
    with pytest.raises(BadInputs) as caught:
        fit(item, spec)
    assert said in caught.value.line()
