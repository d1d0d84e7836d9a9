"""What is known about the native tensors besides their values: which of them belong together.

From their names for a framework's model (``bn1.running_var`` beside ``bn1.weight``), from the graph where the source
is an ONNX file, or an unfolded export whose constants are the native tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from onnxeq.types import Array
from onnxeq.weights.inventory import LINEAR, Inventory
from onnxeq.weights.recipes import Norm

__all__ = ["Facts", "from_graph", "from_names", "joined", "prefix"]

_MEAN = ("running_mean", "moving_mean", "mean")
_VAR = ("running_var", "moving_variance", "moving_var", "variance", "var")
_GAMMA = ("weight", "gamma", "scale")
_BETA = ("bias", "beta", "offset")
_COUNTERS = ("num_batches_tracked", "seed_generator_state", "iteration", "learning_rate", "iterations")


@dataclass(frozen=True)
class Facts:
    """What belongs together.

    Attributes:
        norms: Every BatchNormalization.
        bias_of: A weight's bias.
        norm_of: The BatchNormalization that follows a weight's operator, by the native weight's name.
        live: Native tensors that the source's outputs depend on; ``None`` when nobody knows.
        eps_of: A variance's epsilon, where a graph adds it and takes the root.
    """

    norms: tuple[Norm, ...] = ()
    bias_of: Mapping[str, str] = field(default_factory=dict)
    norm_of: Mapping[str, str] = field(default_factory=dict)
    live: frozenset[str] | None = None
    eps_of: Mapping[str, float] = field(default_factory=dict)


def prefix(name: str) -> str:
    """A native tensor's module: all but the last part of its name."""
    return name[: max(name.rfind("."), name.rfind("/"), 0)]


def leaf(name: str) -> str:
    """The last part of a native tensor's name."""
    return name[max(name.rfind("."), name.rfind("/")) + 1 :]


def needless(name: str) -> bool:
    """Whether a native tensor is a counter or a random state, which no graph needs."""
    return leaf(name) in _COUNTERS


def reparametrised(name: str) -> bool:
    """Whether a weight is computed from this tensor (weight and spectral normalisation) and need not be like it."""
    return "parametrizations" in name or leaf(name).endswith(("_orig", "_g", "_v", "_u"))


def from_names(native: Mapping[str, Array]) -> Facts:
    """What the names of a framework's tensors tell."""
    modules: dict[str, dict[str, str]] = {}
    for name in native:
        modules.setdefault(prefix(name), {})[leaf(name)] = name
    norms, bias_of = [], {}
    for module, parts in modules.items():
        mean, var = (next((parts[k] for k in keys if k in parts), "") for keys in (_MEAN, _VAR))
        if mean and var and native[mean].ndim == 1 and native[var].shape == native[mean].shape:
            gamma, beta = (next((parts[k] for k in keys if k in parts), "") for keys in (_GAMMA, _BETA))
            norms.append(_norm(module, native, gamma, beta, mean, var, None))
        elif "bias" in parts:
            for key, name in parts.items():
                if (key in ("weight", "kernel") or key.endswith("pointwise_kernel")) and native[name].ndim >= 2:
                    bias_of[name] = parts["bias"]
    return Facts(tuple(norms), bias_of)


def _norm(
    name: str, native: Mapping[str, Array], gamma: str, beta: str, mean: str, var: str, eps: float | None
) -> Norm:
    held = native[mean]
    return Norm(
        name,
        tuple(n for n in (gamma, beta, mean, var) if n),
        native[gamma] if gamma else np.ones_like(held),
        native[beta] if beta else np.zeros_like(held),
        held,
        native[var],
        eps,
    )


def from_graph(graph: Inventory, owner: Mapping[str, str], native: Mapping[str, Array]) -> Facts:
    """What a graph tells whose constants are the native tensors.

    Args:
        graph: The unfolded export, or the source itself.
        owner: Its constants' names -> native names.
        native: The native tensors.
    """
    norms, bias_of, norm_of = [], {}, {}
    for node in graph.nodes:
        own = [owner.get(name, "") for name in node.input]
        if node.op_type == "BatchNormalization" and len(own) >= 5 and all(own[1:5]):
            eps = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            norms.append(_norm(prefix(own[3]) or own[3], native, own[1], own[2], own[3], own[4], eps))
    names = {n.natives[2]: n.name for n in norms}
    for index, node in enumerate(graph.nodes):
        weight = _weight(graph, node, owner)
        if not weight:
            continue
        bias, follower = _followers(graph, index, owner)
        if bias:
            bias_of[weight] = bias
        if follower is not None and (norm := names.get(owner.get(follower.input[3], ""))):
            norm_of[weight] = norm
    live = frozenset(owner[s.name] for s in graph.stored.values() if s.live and s.name in owner)
    return Facts(tuple(norms), bias_of, norm_of, live, _added_to_variances(graph, owner))


def _added_to_variances(graph: Inventory, owner: Mapping[str, str]) -> dict[str, float]:
    """Native tensor -> the number that is added to it under a root: a BatchNormalization in its parts."""
    found = {}
    for index, node in enumerate(graph.nodes):
        if node.op_type != "Add" or not any(graph.nodes[i].op_type == "Sqrt" for i in graph.behind(index)):
            continue
        for name, other in (tuple(node.input), tuple(reversed(node.input))):
            native, number = owner.get(_root(graph, name), ""), graph.stored.get(other)
            if native and number is not None and number.size == 1:
                found[native] = float(number.array.reshape(-1)[0])
    return found


def _weight(graph: Inventory, node: onnx.NodeProto, owner: Mapping[str, str]) -> str:
    slot = LINEAR.get(node.op_type)
    if slot is None or len(node.input) <= slot:
        return ""
    slots = (slot, 0) if node.op_type == "MatMul" else (slot,)
    return next((owner[n] for n in (_root(graph, node.input[s]) for s in slots) if n in owner), "")


def _root(graph: Inventory, name: str) -> str:
    """The constant behind Transpose and Reshape nodes."""
    makers = graph.makers
    for _ in range(6):
        index = makers.get(name)
        if index is None or graph.nodes[index].op_type not in ("Transpose", "Reshape", "Identity", "Cast", "Squeeze"):
            break
        name = graph.nodes[index].input[0]
    return name


def _followers(graph: Inventory, index: int, owner: Mapping[str, str]) -> tuple[str, onnx.NodeProto | None]:
    """The bias of a linear node, inside it or added behind it, and the BatchNormalization that follows."""
    node = graph.nodes[index]
    slot = 8 if node.op_type == "QLinearConv" else 2
    bias = (
        owner.get(_root(graph, node.input[slot]), "") if len(node.input) > slot and "MatMul" not in node.op_type else ""
    )
    for _ in range(2):
        behind = graph.behind(index)
        if len(behind) != 1:
            break
        index = behind[0]
        after = graph.nodes[index]
        if after.op_type == "BatchNormalization" and len(after.input) >= 5:
            return bias, after
        if after.op_type != "Add" or bias:
            break
        bias = next((owner[n] for n in (_root(graph, name) for name in after.input) if n in owner), "")
    return bias, None


def joined(first: Facts, second: Facts) -> Facts:
    """What either knows; the second, a graph, is trusted more."""
    known = {n.natives for n in second.norms}
    eps = second.eps_of
    named = (replace(n, eps=eps.get(n.natives[-1], n.eps)) for n in first.norms if n.natives not in known)
    return Facts(
        (*second.norms, *named), {**first.bias_of, **second.bias_of}, {**first.norm_of, **second.norm_of},
        second.live, eps,
    )  # fmt: skip
