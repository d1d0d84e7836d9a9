"""Options of the composite operators at every opset given, with onnxruntime CPU as the witness.

Recurrent layers, detection, signals, classic machine learning and the quantised operators of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

ML, MS = "ai.onnx.ml", "com.microsoft"


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def _u8(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).integers(0, 256, shape).astype(np.uint8)


def _i8(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).integers(-128, 128, shape).astype(np.int8)


def _i(*values: Any) -> Any:
    return np.array(values, dtype=np.int64)


def _s(value: float) -> Any:
    return np.array(value, dtype=np.float32)


def _make(
    op: str,
    opsets: tuple[int, ...],
    inputs: Iterable[Any],
    outputs: int = 1,
    domain: str = "",
    label: str = "",
    **attributes: Any,
) -> list[Any]:
    names = [f"{op}-{opset}{'-' if label else ''}{label}" for opset in opsets]
    values = tuple(inputs)
    return [
        pytest.param(op, opset, values, attributes, outputs, domain, id=name)
        for opset, name in zip(opsets, names, strict=True)
    ]


def _recurrent() -> list[Any]:
    seq, batch, size, hidden = 5, 3, 4, 6
    X, lens = _f(seq, batch, size), np.array([5, 2, 3], np.int32)
    out = []
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        n_out = 3 if op == "LSTM" else 2
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            W, R = _f(d, gates * hidden, size), _f(d, gates * hidden, hidden, seed=2)
            B, h0 = _f(d, 2 * gates * hidden, seed=3), _f(d, batch, hidden, seed=4)
            kw: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
            out += _make(op, (7, 14), (X, W, R), n_out, label=direction, **kw)
            full: tuple[Any, ...] = (X, W, R, B, lens, h0)
            if op == "LSTM":
                full = (*full, _f(d, batch, hidden, seed=5), _f(d, 3 * hidden, seed=6))
            out += _make(op, (7, 14), full, n_out, label=f"{direction}-full", clip=0.7, **kw)
        one = (
            _f(1, gates * hidden, size),
            _f(1, gates * hidden, hidden, seed=2),
            _f(1, 2 * gates * hidden, seed=3),
        )
        kw = {"hidden_size": hidden}
        if op == "GRU":
            out += _make(op, (7, 14), (X, *one, lens), n_out, linear_before_reset=1, label="linear", **kw)
        if op == "LSTM":
            out += _make(op, (7, 14), (X, *one, lens), n_out, input_forget=1, label="coupled", **kw)
        names = {
            "RNN": ["LeakyRelu"],
            "GRU": ["HardSigmoid", "ScaledTanh"],
            "LSTM": ["HardSigmoid", "Affine", "Softsign"],
        }
        kw |= {"activations": names[op], "activation_alpha": [0.3, 0.8], "activation_beta": [0.6, 0.4]}
        out += _make(op, (7,), (X, *one), n_out, label="activations", **kw)
        for name in ("Relu", "Softplus", "Elu"):
            if op == "RNN":
                out += _make(op, (7,), (X, *one), 2, hidden_size=hidden, activations=[name], label=name)
    return out


def _detection() -> list[Any]:
    boxes = np.random.default_rng(1).random((2, 12, 4)).astype(np.float32)
    boxes[..., 2:] += boxes[..., :2]
    scores = np.random.default_rng(2).random((2, 3, 12)).astype(np.float32)
    out = _make("NonMaxSuppression", (10, 11), (boxes, scores, _i(4), _s(0.4).reshape(1), _s(0.2).reshape(1)))
    out += _make(
        "NonMaxSuppression",
        (11,),
        (boxes, scores, _i(4), _s(0.3).reshape(1)),
        center_point_box=1,
        label="centre",
    )
    flipped = boxes[..., [2, 3, 0, 1]]
    out += _make("NonMaxSuppression", (11,), (flipped, scores, _i(2)), label="flipped")
    image = _f(2, 3, 9, 11)
    rois = np.array([[0, 0, 8, 8], [1.3, 2.2, 9.9, 7.7], [-3, -2, 20, 5], [4, 4, 4.2, 4.1]], np.float32)
    index = _i(0, 1, 1, 0)
    for kw in (
        {"sampling_ratio": 2},
        {"sampling_ratio": 0},
        {"mode": "max", "sampling_ratio": 2},
        {"spatial_scale": 0.5},
    ):
        label = "-".join(f"{k}{v}" for k, v in kw.items())
        out += _make("RoiAlign", (10, 16), (image, rois, index), output_height=3, output_width=2, label=label, **kw)
    pool = np.array([[0, 0, 0, 8, 8], [1, 1.3, 2.2, 9.9, 7.7], [1, 2, 2, 30, 5]], np.float32)
    out += _make("MaxRoiPool", (7,), (image, pool), pooled_shape=[2, 3])
    out += _make("MaxRoiPool", (7,), (image, pool), pooled_shape=[3, 2], spatial_scale=0.5, label="scaled")
    return out


def _signals_and_text() -> list[Any]:
    out = _make("Det", (11,), (_f(2, 4, 4),)) + _make("DFT", (17,), (_f(2, 8, 1),), axis=1, onesided=1)
    out += _make("DFT", (17,), (_f(2, 8, 2), _i(6).reshape(())), axis=1, inverse=1, label="inverse")
    out += _make("DFT", (20,), (_f(2, 8, 1), None, np.array(1)), label="axis")
    out += _make("STFT", (17,), (_f(2, 30, 1), np.array(5), _f(10) ** 2, np.array(10)))
    for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        out += _make(op, (17,), (np.array(9),)) + _make(op, (17,), (np.array(9),), periodic=0, label="symmetric")
    mel = (np.array(8), np.array(64), np.array(8000), _s(100), _s(3500))
    out += _make("MelWeightMatrix", (17,), mel)
    grams = {"ngram_counts": [0, 3], "ngram_indexes": [0, 1, 2, 3, 4], "pool_int64s": [2, 3, 5, 5, 4, 3, 5]}
    ids = np.array([[2, 3, 5, 4], [5, 3, 5, 4]], np.int64)
    for mode in ("TF", "IDF", "TFIDF"):
        kw = {
            "min_gram_length": 1,
            "max_gram_length": 2,
            "max_skip_count": 1,
            "weights": [1.0, 2.0, 3.0, 4.0, 5.0],
        }
        out += _make("TfIdfVectorizer", (9,), (ids,), mode=mode, label=mode, **kw, **grams)
    scores, labels, weight = _f(3, 5, 2), np.array([[0, 4], [2, 2], [1, 3]]), np.abs(_f(5))
    for how in ("none", "mean", "sum"):
        for op, n in (("NegativeLogLikelihoodLoss", 1), ("SoftmaxCrossEntropyLoss", 2)):
            kw = {"reduction": how, "ignore_index": 2}
            out += _make(op, (12, 13), (scores, labels, weight), n, label=how, **kw)
    return out


def _machine_learning() -> list[Any]:
    x = _f(5, 3)
    trees = {
        "nodes_treeids": [0, 0, 0, 1, 1, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 0, 1, 2, 3, 4],
        "nodes_featureids": [0, 0, 0, 1, 2, 0, 0, 0],
        "nodes_values": [0.1, 0.0, 0.0, -0.2, 0.3, 0.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0, 1, 3, 0, 0, 0],
        "nodes_falsenodeids": [2, 0, 0, 2, 4, 0, 0, 0],
    }
    votes = ([0, 0, 1, 1, 1], [1, 2, 2, 3, 4], [0, 1, 2, 1, 0], [0.5, -0.25, 1.5, 2.0, 0.75])
    regress = dict(zip(("target_treeids", "target_nodeids", "target_ids", "target_weights"), votes, strict=True))
    classify = dict(zip(("class_treeids", "class_nodeids", "class_ids", "class_weights"), votes, strict=True))
    out = []
    for how in ("SUM", "AVERAGE", "MIN", "MAX"):
        kw = {**trees, **regress, "n_targets": 3, "aggregate_function": how}
        out += _make("TreeEnsembleRegressor", (1,), (x,), domain=ML, label=how, **kw)
    one = {**trees, **regress, "target_ids": [0] * 5, "n_targets": 1, "base_values": [0.125]}
    out += _make("TreeEnsembleRegressor", (1,), (x,), domain=ML, label="base", **one)
    kw = {**trees, **classify, "classlabels_int64s": [3, 5, 9]}
    for how in ("NONE", "SOFTMAX", "LOGISTIC"):
        out += _make("TreeEnsembleClassifier", (1, 3), (x,), 2, ML, how, post_transform=how, **kw)
        lin = {
            "coefficients": [float(v) for v in _f(9)],
            "intercepts": [0.1, 0.2, 0.3],
            "post_transform": how,
        }
        out += _make("LinearRegressor", (1,), (x,), 1, ML, how, targets=3, **lin)
        out += _make("LinearClassifier", (1,), (x,), 2, ML, how, classlabels_ints=[1, 2, 3], multi_class=1, **lin)
    out += _make("Scaler", (1,), (x,), domain=ML, offset=[0.1, 0.2, 0.3], scale=[2.0, 3.0, 4.0])
    for norm in ("MAX", "L1", "L2"):
        out += _make("Normalizer", (1,), (np.abs(x),), domain=ML, norm=norm, label=norm)
    out += _make("Binarizer", (1,), (x,), domain=ML, threshold=0.25)
    out += _make("Imputer", (1,), (np.array([[0, 1], [2, 0]], np.float32),), domain=ML, imputed_value_floats=[7.0, 8.0])
    out += _make("ArrayFeatureExtractor", (1,), (x, _i(2, 0)), domain=ML)
    out += _make("OneHotEncoder", (1,), (_i(1, 5, 2),), domain=ML, cats_int64s=[1, 2, 3])
    words = np.array(["b", "z", "a"], dtype=object)
    out += _make("LabelEncoder", (1,), (words,), domain=ML, classes_strings=["a", "b"])
    out += _make("CategoryMapper", (1,), (words,), domain=ML, cats_strings=["a", "b"], cats_int64s=[4, 7])
    out += _make("FeatureVectorizer", (1,), (x, _f(5, 2)), domain=ML, inputdimensions=[3, 2])
    out += _make("LabelEncoder", (2,), (_i(1, 5, 2),), domain=ML, keys_int64s=[1, 2], values_floats=[0.5, 1.5])
    return out


def _contrib() -> list[Any]:
    qa, qb, zero = _u8(2, 3, 4, 4), _u8(2, 3, 4, 4, seed=1), np.array(100, np.uint8)
    sa, sb, sy = _s(0.02), _s(0.04), _s(0.05)
    out = []
    for op in ("QLinearAdd", "QLinearMul"):
        out += _make(op, (1,), (qa, sa, zero, qb, sb, zero, sy, zero), domain=MS)
    for op in ("QLinearSigmoid", "QLinearLeakyRelu"):
        out += _make(op, (1,), (qa, sa, zero, sy, zero), domain=MS)
    out += _make("QLinearGlobalAveragePool", (1,), (qa, sa, zero, sa, zero), domain=MS, channels_last=0)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2], "count_include_pad": 1}
    out += _make("QLinearAveragePool", (1,), (qa, sa, zero, sa, zero), domain=MS, **pool)
    out += _make("QLinearConcat", (1,), (sy, zero, qa, sa, zero, qb, sb, zero), domain=MS, axis=1)
    soft = (qa, sa, zero, _s(1 / 256), np.array(0, np.uint8))
    out += _make("QLinearSoftmax", (1,), soft, domain=MS, axis=-1, opset=13)
    out += _make("DynamicQuantizeMatMul", (1,), (_f(3, 8), _u8(8, 4), sa, np.array(90, np.uint8), _f(4)), domain=MS)
    out += _make("MatMulIntegerToFloat", (1,), (_u8(3, 8), _u8(8, 4), sa, sb, zero, zero, _f(4)), domain=MS)
    for bits in (4,):
        kw = {"K": 40, "N": 5, "bits": bits, "block_size": 16}
        packed = (_f(3, 40), _u8(5, 3, 16 * bits // 8), np.abs(_f(15)) + 0.1)
        out += _make("MatMulNBits", (1,), packed, domain=MS, label=f"{bits}", **kw)
        out += _make("MatMulNBits", (1,), (*packed, _u8(10)), domain=MS, label=f"{bits}-zero", **kw)
    out += _make("Trilu", (1,), (_f(3, 4),), domain=MS) + _make("Inverse", (1,), (_f(2, 3, 3),), domain=MS)
    return out


CASES = [
    *_recurrent(),
    *_detection(),
    *_signals_and_text(),
    *_machine_learning(),
    *_contrib(),
]


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes", "outputs", "domain"), CASES)
def test_agrees_with_onnxruntime(
    against_onnxruntime: Callable[..., None],
    op: str,
    opset: int,
    inputs: tuple[Any, ...],
    attributes: dict[str, Any],
    outputs: int,
    domain: str,
) -> None:
    """The referee and onnxruntime CPU give the same for one form of an operator at one opset."""
    against_onnxruntime(op, opset, inputs, attributes, outputs, domain)
