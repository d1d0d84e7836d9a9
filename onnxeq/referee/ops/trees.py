"""ai.onnx.ml: tree ensembles, in the form of opset 5 and in the two older ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxeq.referee.ops.ml import ML, labels_of, post_transform
from onnxeq.referee.ops.tensors import unsupported
from onnxeq.referee.registry import Call, op

__all__: list[str] = []

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_MEMBER = 6


@dataclass(frozen=True)
class _Forest:
    """Interior nodes as parallel arrays; a child below 0 is leaf ``-1 - child``.

    ``leaf_rows[l]`` are the votes of leaf ``l``: (target, weight).
    """

    roots: list[int]
    mode: Any
    feature: Any
    split: Any
    true: Any
    false: Any
    missing: Any
    members: dict[int, Any]
    leaf_rows: list[list[tuple[int, float]]]


def _goes_true(forest: _Forest, at: Any, x: Any) -> Any:
    """Whether each sample, at node ``at`` with feature value ``x``, takes the true branch."""
    split, mode = forest.split[at], forest.mode[at]
    tests = (x <= split, x < split, x >= split, x > split, x == split, x != split)
    taken = np.select([mode == i for i in range(6)], tests, default=False)
    for node, values in forest.members.items():
        here = at == node
        taken[here] = np.isin(x[here], values)
    return taken | (np.isnan(x) & (forest.missing[at] != 0))


def _leaves(forest: _Forest, X: Any, root: int) -> Any:
    """The leaf that each row of ``X`` reaches."""
    at = np.full(X.shape[0], root)
    while (inside := np.flatnonzero(at >= 0)).size:
        here = at[inside]
        x = X[inside, forest.feature[here]]
        at[inside] = np.where(_goes_true(forest, here, x), forest.true[here], forest.false[here])
    return -1 - at


def _scores(forest: _Forest, X: Any, targets: int, aggregate: str) -> tuple[Any, Any]:
    """``[N, targets]`` and whether any leaf voted for each entry."""
    X = X.astype(np.float64)
    start = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)
    scores = np.full((X.shape[0], targets), start)
    voted = np.zeros(scores.shape, bool)
    for root in forest.roots:
        for row, leaf in enumerate(_leaves(forest, X, root)):
            for target, weight in forest.leaf_rows[leaf]:
                voted[row, target] = True
                old = scores[row, target]
                combine = {"MIN": min, "MAX": max}.get(aggregate)
                scores[row, target] = combine(old, weight) if combine else old + weight
    if aggregate == "AVERAGE":
        scores /= len(forest.roots)
    return np.where(voted, scores, 0.0), voted


def _members(values: Any, modes: Any) -> dict[int, Any]:
    """The sets of the member nodes: one NaN-terminated run of values for each, in order."""
    if values is None:
        return {}
    runs = np.split(values, np.flatnonzero(np.isnan(values)) + 1)
    nodes = np.flatnonzero(modes == _MEMBER)
    return {int(n): run[~np.isnan(run)] for n, run in zip(nodes, runs, strict=False)}


@op("TreeEnsemble", domain=ML, since=5, witnesses=("suite", "onnxruntime"))
def tree_ensemble(call: Call, X: Any) -> Any:
    """The aggregated leaf weights of every tree, per target."""
    modes = np.asarray(call.get("nodes_modes")).astype(np.int64)
    children = []
    for side in ("true", "false"):
        ids, leafs = np.asarray(call.get(f"nodes_{side}nodeids")), np.asarray(call.get(f"nodes_{side}leafs"))
        children.append(np.where(leafs != 0, -1 - ids, ids))
    missing = call.get("nodes_missing_value_tracks_true") or [0] * modes.size
    weights = np.asarray(call.get("leaf_weights"), dtype=np.float64)
    votes = [[(int(t), float(w))] for t, w in zip(call.get("leaf_targetids"), weights, strict=True)]
    member_values = call.get("membership_values")
    forest = _Forest(
        roots=list(call.get("tree_roots")),
        mode=modes,
        feature=np.asarray(call.get("nodes_featureids")),
        split=np.asarray(call.get("nodes_splits"), dtype=np.float64),
        true=children[0],
        false=children[1],
        missing=np.asarray(missing),
        members=_members(None if member_values is None else np.asarray(member_values, np.float64), modes),
        leaf_rows=votes,
    )
    aggregate = ("AVERAGE", "SUM", "MIN", "MAX")[call.get("aggregate_function", 1)]
    scores, _ = _scores(forest, X, call.get("n_targets"), aggregate)
    how = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")[call.get("post_transform", 0)]
    return post_transform(scores, how)


def _floats(call: Call, name: str) -> Any:
    """A float attribute in either of its forms (a list, or a tensor of doubles), or ``None``."""
    value = call.get(f"{name}_as_tensor")
    value = call.get(name) if value is None else value
    return None if value is None else np.asarray(value, dtype=np.float64)


def _older_forest(call: Call, votes: str, kind: str) -> _Forest:
    """The forest of the older forms: nodes by (tree, node) id, leaves among them."""
    trees, nodes = call.get("nodes_treeids"), call.get("nodes_nodeids")
    keys = list(zip(trees, nodes, strict=True))
    modes = call.get("nodes_modes")
    leaf_of = {k: i for i, k in enumerate(k for k, m in zip(keys, modes, strict=True) if m == "LEAF")}
    place = {k: i for i, k in enumerate(keys)}
    rows: list[list[tuple[int, float]]] = [[] for _ in leaf_of]
    weights = _floats(call, f"{votes}_weights")
    ids = zip(
        call.get(f"{votes}_treeids"),
        call.get(f"{votes}_nodeids"),
        call.get(f"{votes}_{kind}"),
        weights,
        strict=True,
    )
    for tree, node, target, weight in ids:
        rows[leaf_of[tree, node]].append((int(target), float(weight)))

    def link(key: tuple[int, int]) -> int:
        return -1 - leaf_of[key] if key in leaf_of else place[key]

    def children(name: str) -> Any:
        ids = call.get(name)
        return np.array([0 if k in leaf_of else link((k[0], c)) for k, c in zip(keys, ids, strict=True)])

    return _Forest(
        roots=[link(keys[trees.index(t)]) for t in dict.fromkeys(trees)],
        mode=np.array([-1 if m == "LEAF" else _MODES.index(m) for m in modes]),
        feature=np.asarray(call.get("nodes_featureids")),
        split=_floats(call, "nodes_values"),
        true=children("nodes_truenodeids"),
        false=children("nodes_falsenodeids"),
        missing=np.asarray(call.get("nodes_missing_value_tracks_true") or [0] * len(keys)),
        members={},
        leaf_rows=rows,
    )


@op(
    "TreeEnsembleRegressor",
    domain=ML,
    witnesses=("onnxruntime", "not onnxruntime: no base value for a target that no leaf votes for"),
)
def tree_regressor(call: Call, X: Any) -> Any:
    """The aggregated leaf weights plus ``base_values``, per target."""
    targets = call.get("n_targets", 1)
    scores, _ = _scores(_older_forest(call, "target", "ids"), X, targets, call.get("aggregate_function", "SUM"))
    base = _floats(call, "base_values")
    return post_transform(scores if base is None else scores + base, call.get("post_transform", "NONE"))


@op("TreeEnsembleClassifier", domain=ML, witnesses=("onnxruntime",))
def tree_classifier(call: Call, X: Any) -> tuple[Any, Any]:
    """The label with the best summed weight, and the scores of all classes."""
    labels = labels_of(call, "classlabels_int64s", "classlabels_strings")
    if len(set(call.get("class_ids"))) == 1 and labels.size == 2:
        raise unsupported(call, "two classes with weights for one: the specification does not define the other")
    scores, _ = _scores(_older_forest(call, "class", "ids"), X, labels.size, "SUM")
    base = _floats(call, "base_values")
    scores = scores if base is None else scores + base
    return labels[scores.argmax(axis=1)], post_transform(scores, call.get("post_transform", "NONE"))
