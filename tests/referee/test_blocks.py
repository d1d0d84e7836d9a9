from __future__ import annotations

import numpy as np
import pytest

from onnxeq.referee import blocks
from onnxeq.referee.ops.conv import convolve
from onnxeq.referee.windows import Windows, windows_of


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Products shared out to so many threads."""
    monkeypatch.setattr(blocks, "product_threads", lambda: request.param)
    monkeypatch.setattr("onnxeq.referee.ops.conv.product_threads", lambda: request.param)
    monkeypatch.setattr(blocks, "thread_count", lambda: request.param)
    monkeypatch.setattr(blocks, "_WORTH_THREADS", 0)
    return request.param


def test_products_do_not_depend_on_who_computes_what(threads: int) -> None:
    """Of whole numbers every sum is exact, so that shares of rows, columns or matrices give numpy's bits."""
    rng = np.random.default_rng(0)
    shapes = [
        ((7, 5), (5, 3)),
        ((2, 5), (5, 9)),
        ((4, 7, 5), (4, 5, 3)),
        ((3, 2, 7, 5), (5, 3)),
        ((1, 7, 5), (4, 5, 3)),
    ]
    shapes += [((1, 2, 5), (1, 5, 9)), ((5,), (5, 3)), ((2, 5), (5,)), ((0, 5), (5, 3)), ((2, 0), (0, 3))]
    for one, other in shapes:
        a, b = (rng.integers(-9, 9, shape).astype(np.float64) for shape in (one, other))
        found = blocks.matmul(a, b)
        assert found.shape == np.matmul(a, b).shape
        assert np.array_equal(found, np.matmul(a, b))


class _Call:
    """Attributes of a Conv, as far as its windows ask for them."""

    def __init__(self, **attributes: object) -> None:
        self._attributes = attributes

    def get(self, name: str, default: object = None) -> object:
        return self._attributes.get(name, default)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_do_not_depend_on_who_computes_what(threads: int, batch: int, kernel: int) -> None:
    """Whole numbers again: images, filters or lines shared out give the sum over taps and channels."""
    rng = np.random.default_rng(1)
    x = rng.integers(-9, 9, (batch, 4, 7, 6)).astype(np.float64)
    w = rng.integers(-9, 9, (5, 4, kernel, kernel)).astype(np.float64)
    pad = kernel // 2
    call = _Call(pads=[pad] * 4, strides=[1, 1], dilations=[1, 1])
    windows: Windows = windows_of(call, x.shape[2:], w.shape[2:])  # type: ignore[arg-type]
    wide = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    expected = sum(
        np.einsum("nchw,oc->nohw", wide[:, :, i : i + 7, j : j + 6], w[:, :, i, j])
        for i in range(kernel)
        for j in range(kernel)
    )
    assert np.array_equal(convolve(x, w, None, windows, 1), expected)
