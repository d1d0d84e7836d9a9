"""torch in float64 as the second witness: agreement to float64 rounding, not only to float32's.

A hidden float32 step anywhere in an implementation shows here as an error of 1e-8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Run = Callable[..., list[Any]]

pytestmark = pytest.mark.torch

ROUNDING = 1e-12
"""float64 rounding (2e-16) times the longest sums and recurrences here, with room."""


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def _wide(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.asarray(array).astype(np.float64))


_UNARY = {
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "Cos": "cos",
    "Cosh": "cosh",
    "Exp": "exp",
    "Log": "log",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
}


@pytest.mark.parametrize("op", _UNARY)
def test_unary(run_node: Run, op: str) -> None:
    """Elementary functions agree in float64, NaN outside their domains included."""
    import torch

    x = np.concatenate([_f(50) * 3, np.linspace(-1, 1, 21, dtype=np.float32)])
    (got,) = run_node(op, 22, (x,))
    np.testing.assert_allclose(got, getattr(torch, _UNARY[op])(_wide(x)).numpy(), rtol=ROUNDING, atol=1e-15)


@pytest.mark.parametrize(
    ("op", "name"), [("ReduceLogSumExp", "logsumexp"), ("ReduceMean", "mean"), ("ReduceProd", "prod")]
)
def test_reductions(run_node: Run, op: str, name: str) -> None:
    """Reductions over one axis agree in float64."""
    import torch

    x = _f(5, 40)
    (got,) = run_node(op, 13, (x,), {"axes": [1], "keepdims": 0})
    np.testing.assert_allclose(got, getattr(torch, name)(_wide(x), dim=1).numpy(), rtol=ROUNDING)


def _order(parameter: Any, gates: list[int]) -> Any:
    """A torch parameter with its gates in ONNX's order."""
    parts = np.split(parameter.detach().numpy(), len(gates))
    return np.concatenate([parts[g] for g in gates])


def _parameters(layer: Any, gates: list[int], directions: int) -> tuple[Any, Any, Any]:
    """W, R and B of ONNX from a torch layer: torch's order is ifgo / rzn, ONNX's iofc / zrh."""
    W, R, B = [], [], []
    for d in range(directions):
        suffix = "_l0" + ("_reverse" if d else "")
        W.append(_order(getattr(layer, f"weight_ih{suffix}"), gates))
        R.append(_order(getattr(layer, f"weight_hh{suffix}"), gates))
        biases = [_order(getattr(layer, f"bias_{k}{suffix}"), gates) for k in ("ih", "hh")]
        B.append(np.concatenate(biases))
    return np.stack(W), np.stack(R), np.stack(B)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("op", "gates", "extra"),
    [("RNN", [0], {}), ("GRU", [1, 0, 2], {"linear_before_reset": 1}), ("LSTM", [0, 3, 1, 2], {})],
)
def test_recurrent(run_node: Run, op: str, gates: list[int], extra: dict[str, int], bidirectional: bool) -> None:
    """Layers over sequences of different lengths agree with torch's packed sequences in float64."""
    import torch

    torch.manual_seed(0)
    layer = getattr(torch.nn, op)(4, 6, bidirectional=bidirectional).eval()
    directions = 2 if bidirectional else 1
    W, R, B = _parameters(layer, gates, directions)
    X, lens = _f(5, 3, 4), np.array([5, 3, 2], np.int32)
    packed = torch.nn.utils.rnn.pack_padded_sequence(_wide(X), torch.from_numpy(lens))
    with torch.no_grad():
        out, state = layer.double()(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(out)
    attributes = {"hidden_size": 6, "direction": "bidirectional" if bidirectional else "forward", **extra}
    got = run_node(op, 14, (X, W, R, B, lens), attributes, 3 if op == "LSTM" else 2)
    joined = got[0].transpose(0, 2, 1, 3).reshape(5, 3, -1)
    np.testing.assert_allclose(joined, expected.numpy(), atol=ROUNDING)
    states = state if isinstance(state, tuple) else (state,)
    for have, want in zip(got[1:], states, strict=True):
        np.testing.assert_allclose(have, want.numpy(), atol=ROUNDING)


@pytest.mark.parametrize(("opset", "aligned"), [(10, False), (16, True)])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(run_node: Run, opset: int, aligned: bool, ratio: int) -> None:
    """Opset 10 has no half-pixel shift, opset 16 has one: torchvision's ``aligned``."""
    import torch
    from torchvision.ops import roi_align

    image = _f(2, 3, 9, 11)
    rois = np.array([[0, 0, 8, 8], [1.3, 2.2, 9.9, 7.7], [-3, -2, 20, 5]], np.float32)
    index = np.array([0, 1, 1], np.int64)
    boxes = torch.cat([_wide(index)[:, None], _wide(rois)], dim=1)
    expected = roi_align(_wide(image), boxes, (3, 2), 0.5, ratio or -1, aligned)
    attributes = {"output_height": 3, "output_width": 2, "spatial_scale": 0.5, "sampling_ratio": ratio}
    (got,) = run_node("RoiAlign", opset, (image, rois, index), attributes)
    np.testing.assert_allclose(got, expected.numpy(), atol=ROUNDING)


def test_max_roi_pool(run_node: Run) -> None:
    """Pooling over rounded regions agrees with torchvision, exactly."""
    from torchvision.ops import roi_pool

    image = _f(2, 3, 9, 11)
    rois = np.array([[0, 0, 0, 8, 8], [1, 1.3, 2.2, 9.9, 7.7], [1, 2, 2, 30, 5]], np.float32)
    expected = roi_pool(_wide(image), _wide(rois), (2, 3), 0.5)
    (got,) = run_node("MaxRoiPool", 7, (image, rois), {"pooled_shape": [2, 3], "spatial_scale": 0.5})
    np.testing.assert_array_equal(got, expected.numpy())


def test_non_max_suppression(run_node: Run) -> None:
    """One class: the kept boxes and their order are torchvision's."""
    import torch
    from torchvision.ops import nms

    rng = np.random.default_rng(3)
    boxes = rng.random((1, 60, 4)).astype(np.float32)
    boxes[..., 2:] += boxes[..., :2]
    scores = rng.random((1, 1, 60)).astype(np.float32)
    limits = (np.array([60]), np.array([0.4], np.float32))
    (got,) = run_node("NonMaxSuppression", 11, (boxes, scores, *limits))
    expected = nms(_wide(boxes[0]), _wide(scores[0, 0]), float(np.float32(0.4)))
    assert isinstance(expected, torch.Tensor)
    assert got[:, 2].tolist() == expected.tolist()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses(run_node: Run, reduction: str) -> None:
    """Cross entropy with weights and an ignored class agrees in float64."""
    import torch

    scores, labels, weight = _f(4, 5, 3) * 10, np.arange(12).reshape(4, 3) % 5, np.abs(_f(5))
    attributes = {"reduction": reduction, "ignore_index": 2}
    (got,) = run_node("SoftmaxCrossEntropyLoss", 13, (scores, labels, weight), attributes)
    expected = torch.nn.functional.cross_entropy(
        _wide(scores), torch.from_numpy(labels), _wide(weight), ignore_index=2, reduction=reduction
    )
    np.testing.assert_allclose(got, expected.numpy(), rtol=ROUNDING)


def test_spectrum(run_node: Run) -> None:
    """The short-time transform agrees with torch's, frames not centred."""
    import torch

    signal, window = _f(2, 50, 1), np.hanning(16).astype(np.float32)
    (got,) = run_node("STFT", 17, (signal, np.array(5), window, np.array(16)))
    expected = torch.stft(_wide(signal[..., 0]), 16, 5, window=_wide(window), center=False, return_complex=True)
    np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], expected.numpy().swapaxes(1, 2), atol=ROUNDING)


@pytest.mark.parametrize(("op", "name", "domain"), [("Det", "det", ""), ("Inverse", "inv", "com.microsoft")])
def test_matrices(run_node: Run, op: str, name: str, domain: str) -> None:
    """Determinants and inverses agree in float64."""
    import torch

    x = _f(3, 5, 5)
    (got,) = run_node(op, 1 if domain else 22, (x,), {}, 1, domain)
    np.testing.assert_allclose(got, getattr(torch.linalg, name)(_wide(x)).numpy(), rtol=1e-10)


def test_pixel_shuffle(run_node: Run) -> None:
    """DepthToSpace in CRD order is torch's pixel shuffle."""
    import torch

    x = _f(2, 12, 2, 3)
    (got,) = run_node("DepthToSpace", 13, (x,), {"blocksize": 2, "mode": "CRD"})
    np.testing.assert_array_equal(got, torch.nn.functional.pixel_shuffle(_wide(x), 2).numpy())
