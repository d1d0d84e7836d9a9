"""ai.onnx.ml: feature preparation and linear models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxeq.errors import BadInputs
from onnxeq.referee.registry import Call, op

__all__ = ["ML", "labels_of", "post_transform"]

ML = "ai.onnx.ml"


def _probit(p: Any) -> Any:
    """``sqrt(2) * erfinv(2 p - 1)`` by the approximation that runtimes use (Winitzki, a = 0.147)."""
    x = 2 * p - 1
    log = np.log((1 - x) * (1 + x))
    first = 2 / (np.pi * 0.147) + log / 2
    return np.sqrt(2) * np.sign(x) * np.sqrt(np.sqrt(first**2 - log / 0.147) - first)


def post_transform(scores: Any, how: str) -> Any:
    """NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO (zeros stay zero) or PROBIT over the last axis."""
    if how == "LOGISTIC":
        return 0.5 * (1 + np.tanh(0.5 * scores))
    if how == "PROBIT":
        return _probit(scores)
    if how not in ("SOFTMAX", "SOFTMAX_ZERO"):
        return scores
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    if how == "SOFTMAX_ZERO":
        raised = np.where(np.equal(scores, 0), 0, raised)
    return raised / raised.sum(axis=-1, keepdims=True)


def labels_of(call: Call, integers: str, strings: str) -> Any:
    """The class labels of either attribute as an array."""
    if call.get(strings):
        return np.array(call.get(strings), dtype=object)
    return np.array(call.get(integers) or (), dtype=np.int64)


@op("ArrayFeatureExtractor", domain=ML, witnesses=("suite", "onnxruntime"))
def array_feature_extractor(call: Call, X: Any, Y: Any) -> Any:
    """The columns ``Y`` of the last axis."""
    picked = np.take(X, Y.reshape(-1), axis=-1)
    return picked.reshape(1, -1) if X.ndim == 1 else picked


@op("Binarizer", domain=ML, witnesses=("suite", "onnxruntime"))
def binarizer(call: Call, X: Any) -> Any:
    """1 above the threshold, else 0."""
    return np.greater(X, call.get("threshold", 0.0)).astype(X.dtype)


@op("Scaler", domain=ML, witnesses=("onnxruntime",))
def scaler(call: Call, X: Any) -> Any:
    """``(X - offset) * scale``."""
    return (X.astype(np.float64) - np.asarray(call.get("offset", [0.0]))) * np.asarray(call.get("scale", [1.0]))


@op("Normalizer", domain=ML, witnesses=("onnxruntime",))
def normalizer(call: Call, X: Any) -> Any:
    """Rows over their largest element (MAX), L1 or L2 norm; rows of zeros stay."""
    X = X.astype(np.float64)
    norm = call.get("norm", "MAX")
    if norm == "MAX":
        size = X.max(axis=-1, keepdims=True)
    elif norm == "L1":
        size = np.abs(X).sum(axis=-1, keepdims=True)
    else:
        size = np.sqrt(np.square(X).sum(axis=-1, keepdims=True))
    return X / np.where(size == 0, 1, size)


@op("Imputer", domain=ML, witnesses=("onnxruntime",))
def imputer(call: Call, X: Any) -> Any:
    """Replaces one value (NaN included) by a constant, or by one per feature."""
    if X.dtype.kind in "iu":
        found = np.equal(X, call.get("replaced_value_int64", 0))
        return np.where(found, call.get("imputed_value_int64s"), X).astype(X.dtype)
    missing = call.get("replaced_value_float", 0.0)
    found = np.isnan(X) if math.isnan(missing) else np.equal(X, missing)
    return np.where(found, call.get("imputed_value_floats"), X)


@op("FeatureVectorizer", domain=ML, witnesses=("onnxruntime",))
def feature_vectorizer(call: Call, *values: Any) -> Any:
    """Inputs as columns side by side."""
    rows = [v.reshape(1, -1) if v.ndim == 1 else v.reshape(v.shape[0], -1) for v in values]
    return np.concatenate(rows, axis=1).astype(np.float64)


@op("OneHotEncoder", domain=ML, witnesses=("onnxruntime",))
def one_hot_encoder(call: Call, X: Any) -> Any:
    """A new last axis with 1 at the category's place."""
    categories = labels_of(call, "cats_int64s", "cats_strings")
    whole = X if X.dtype == object else X.astype(np.int64)
    hot = whole[..., None] == categories
    if not call.get("zeros", 1) and not hot.any(axis=-1).all():
        raise BadInputs(f"OneHotEncoder {call.node.name}: an input is in none of its categories")
    return hot.astype(np.float64)


def _key(value: Any) -> Any:
    """A dictionary key: every NaN is the same one."""
    value = value.item() if isinstance(value, np.generic) else value
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _replace(X: Any, table: dict[Any, Any], default: Any, dtype: Any) -> Any:
    found = [table.get(_key(v), default) for v in X.reshape(-1)]
    return np.array(found, dtype=dtype).reshape(X.shape)


@op("CategoryMapper", domain=ML, witnesses=("onnxruntime",))
def category_mapper(call: Call, X: Any) -> Any:
    """Strings to integers or back, by two parallel lists."""
    strings, integers = call.get("cats_strings"), call.get("cats_int64s")
    if X.dtype.kind in "OUS":
        return _replace(X, dict(zip(strings, integers, strict=True)), call.get("default_int64", -1), np.int64)
    return _replace(X, dict(zip(integers, strings, strict=True)), call.get("default_string", "_Unused"), object)


@op("LabelEncoder", domain=ML, until=1, witnesses=("onnxruntime",))
def label_encoder_classes(call: Call, X: Any) -> Any:
    """Strings to their places in ``classes_strings``, or back."""
    classes = call.get("classes_strings")
    if X.dtype.kind in "OUS":
        table = {c: i for i, c in enumerate(classes)}
        return _replace(X, table, call.get("default_int64", -1), np.int64)
    return _replace(X, dict(enumerate(classes)), call.get("default_string", "_Unused"), object)


_VALUES: dict[str, tuple[Any, str, Any]] = {
    "strings": (object, "default_string", "_Unused"),
    "int64s": (np.int64, "default_int64", -1),
    "floats": (np.float64, "default_float", -0.0),
}


@op("LabelEncoder", domain=ML, since=2, witnesses=("suite", "onnxruntime"))
def label_encoder(call: Call, X: Any) -> Any:
    """Maps keys to values; the last of equal keys wins."""
    names = [f"keys_{k}" for k in (*_VALUES, "tensor")]
    keys = next(call.get(n) for n in names if call.get(n) is not None)
    kind = next(k for k in (*_VALUES, "tensor") if call.get(f"values_{k}") is not None)
    values = call.get(f"values_{kind}")
    if kind == "tensor":
        default = call.get("default_tensor")
        fill = "_Unused" if values.dtype == object else (-1 if values.dtype.kind in "iu" else -0.0)
        fallback, dtype = (fill if default is None else np.asarray(default).reshape(-1)[0]), values.dtype
    else:
        dtype, attribute, fill = _VALUES[kind]
        fallback = call.get(attribute, fill)
    # float keys are stored in float32, and so were the inputs: widened, they still meet
    table = {_key(k): v for k, v in zip(np.asarray(keys).reshape(-1), np.asarray(values).reshape(-1), strict=True)}
    return _replace(X, table, fallback, dtype)


@op("LinearRegressor", domain=ML, witnesses=("onnxruntime",))
def linear_regressor(call: Call, X: Any) -> Any:
    """``X W^T + b``."""
    targets = call.get("targets", 1)
    weights = np.asarray(call.get("coefficients")).reshape(targets, -1)
    scores = X.astype(np.float64) @ weights.T + np.asarray(call.get("intercepts", [0.0] * targets))
    return post_transform(scores, call.get("post_transform", "NONE"))


@op("LinearClassifier", domain=ML, witnesses=("onnxruntime",))
def linear_classifier(call: Call, X: Any) -> tuple[Any, Any]:
    """The label with the best score, and the scores; one row of weights is a binary classifier."""
    labels = labels_of(call, "classlabels_ints", "classlabels_strings")
    bias = np.asarray(call.get("intercepts", [0.0]))
    coefficients = np.asarray(call.get("coefficients"))
    X = X.reshape(1, -1) if X.ndim == 1 else X
    weights = coefficients.reshape(-1, X.shape[1])
    scores = X.astype(np.float64) @ weights.T + bias
    how = call.get("post_transform", "NONE")
    if scores.shape[1] == 1 and labels.size == 2:
        best = (scores[:, 0] > 0).astype(np.int64)
        if how == "LOGISTIC":
            scores = post_transform(np.concatenate([-scores, scores], axis=1), how)
        else:
            scores = post_transform(np.concatenate([1 - scores, scores], axis=1), how)
        return labels[best], scores
    return labels[scores.argmax(axis=1)], post_transform(scores, how)
