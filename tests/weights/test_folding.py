"""Folds by other tools than ours are never near misses; damaged ones are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnxsim
import pytest
from onnx import helper

from onnxeq.graph.normalize import normalize
from onnxeq.weights import match
from onnxeq.weights.facts import from_graph, from_names, joined
from onnxeq.weights.folding import fit_norm
from onnxeq.weights.inventory import inventory
from onnxeq.weights.recipes import Norm, factors, folded_shifts, folded_weights
from onnxeq.weights.verdicts import judge


def norm_of(seed: int, channels: int) -> Norm:
    rng = np.random.default_rng(seed)
    gamma, beta, mean, var = (
        a.astype(np.float32)
        for a in (rng.standard_normal(channels), rng.standard_normal(channels), rng.standard_normal(channels),
                  np.exp(2 * rng.standard_normal(channels)))
    )  # fmt: skip
    return Norm("bn", ("gamma", "beta", "mean", "var"), gamma, beta, mean, var, 1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_simplifiers_fold_honestly(nets: Any, seed: int) -> None:
    """Folds by onnxsim and our own of random networks have no fault, with and without a reference."""
    native = nets.native(seed, channels=(8, 12, 32)[seed % 3], bias=seed % 2 == 0)
    source = nets.unfolded(native)
    for artifact in (onnxsim.simplify(source)[0], normalize(source).model):
        for reference in (None, source):
            assert [e.evidence for e in match(native, artifact, reference=reference).faults] == []


@pytest.mark.parametrize("seed", range(20))
def test_a_root_that_is_not_correctly_rounded_is_honest(nets: Any, seed: int) -> None:
    """The square root of torch may be off by one ulp: factors off by that in some channels are not a fault."""
    native = nets.native(seed)
    rng = np.random.default_rng(seed + 100)

    def other_root(w: dict[str, Any]) -> None:
        for k in ("1", "2"):
            gamma, beta, mean, var = (native[f"bn{k}.{p}"] for p in ("weight", "bias", "running_mean", "running_var"))
            root = np.sqrt(var + np.float32(1e-5))
            root = np.where(rng.random(len(root)) < 0.2, np.nextafter(root, np.float32(9)), root)
            s = gamma / root
            w[f"conv{k}.weight"] = native[f"conv{k}.weight"] * s[:, None, None, None]
            w[f"conv{k}.bias"] = (native[f"conv{k}.bias"] - mean) * s + beta

    assert [e.evidence for e in match(native, nets.folded(native, other_root)).faults] == []


@pytest.mark.parametrize("seed", range(30))
def test_every_recipe_is_within_the_bound_of_every_other(seed: int) -> None:
    """No recipe's result is a fault when the others are the only ones known: the bound and the envelope hold."""
    norm, rng = norm_of(seed, 16), np.random.default_rng(seed)
    bias = rng.standard_normal(16).astype(np.float32)
    scale = norm.scale(1e-5)
    exact = (bias - norm.mean.astype(np.float64)) * scale + norm.beta
    magnitude = np.abs(norm.mean * scale) + np.abs(norm.beta) + np.abs(bias * scale)
    shifts = list(folded_shifts(bias, norm, 1e-5))
    for name, value in ((n, v) for n, v in shifts if "root" not in n):  # those with another root are the envelope
        others = [(n, v) for n, v in shifts if n != name and not np.array_equal(v, value)]
        assert judge(value, exact, magnitude, others).honest, name


@pytest.mark.parametrize("seed", range(10))
def test_four_ulp_in_one_channel_stand_out(seed: int) -> None:
    """In 32 channels of a folded bias one that is off by four ulp is told from any recipe's rounding."""
    norm, rng = norm_of(seed, 32), np.random.default_rng(seed)
    bias = rng.standard_normal(32).astype(np.float32)
    scale = norm.scale(1e-5)
    exact = (bias - norm.mean.astype(np.float64)) * scale + norm.beta
    magnitude = np.abs(norm.mean * scale) + np.abs(norm.beta) + np.abs(bias * scale)
    for _, value in folded_shifts(bias, norm, 1e-5):
        damaged = value.copy()
        for _ in range(4):
            damaged[seed] = np.nextafter(damaged[seed], np.float32(np.inf))
        fold = judge(damaged, exact, magnitude, folded_shifts(bias, norm, 1e-5))
        assert np.flatnonzero(fold.wrong).tolist() == [seed]


def test_recipes_agree_in_exact_arithmetic() -> None:
    """All recipes of a weight are within four float32 units of ``W*s``."""
    norm = norm_of(0, 8)
    weight = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
    exact = weight * norm.scale(1e-5)[:, None]
    for name, value in folded_weights(weight, norm, 1e-5, (-1, 1)):
        assert (np.abs(value - exact) <= 4 * 2.0**-23 * np.abs(exact)).all(), name
    assert {v.dtype.name for _, v in factors(norm, 1e-5)} == {"float32", "float64"}


Grouped = Callable[[Any, Any], Any]


def test_a_grouped_transposed_convolution_is_unfolded(nets: Any) -> None:
    """ConvTranspose with two groups: output channel ``g*O/2 + j`` is in the weight's row block g, column j."""
    rng = np.random.default_rng(0)
    norm = norm_of(1, 6)
    native = {"ct.weight": rng.standard_normal((4, 3, 2, 2)).astype(np.float32), "bn.weight": norm.gamma,
              "bn.bias": norm.beta, "bn.running_mean": norm.mean, "bn.running_var": norm.var}  # fmt: skip
    s = norm.gamma / np.sqrt(norm.var + np.float32(1e-5))
    weight = native["ct.weight"].copy()
    for group in range(2):
        weight[2 * group : 2 * group + 2] *= s[3 * group : 3 * group + 3][None, :, None, None]
    stored = {"w": weight, "b": (np.float32(0) - norm.mean) * s + norm.beta}
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="up", group=2, strides=[2, 2])
    found = match(native, nets.model_of([node], stored, ["N", 4, 5, 5], "y"))
    assert not found.faults
    assert found.natives_accounted == 5


@pytest.mark.parametrize("damaged", [None, 7])
def test_an_unusual_epsilon_is_told_by_one_small_variance(damaged: int | None) -> None:
    """1.001e-5 for 1e-5 shows in the one channel of variance 0.01 alone, and a wrong factor hides nothing."""
    rng = np.random.default_rng(3)
    var = np.exp(rng.uniform(0, 2, 256)).astype(np.float32)
    var[19] = 0.0096
    norm = Norm("bn", ("g", "b", "m", "v"), np.ones(256, np.float32), np.zeros(256), np.zeros(256), var, None)
    factor = norm.scale(1.001e-5)
    if damaged is not None:
        factor[damaged] *= 1.01
    found = fit_norm(factor, [norm])
    assert found is not None
    assert found[1] == 1.001e-5
    usual = fit_norm(norm.scale(1e-5), [norm])
    assert usual is not None
    assert usual[1] == 1e-5


def test_an_epsilon_that_the_graph_adds_is_believed() -> None:
    """In ``Reciprocal(Sqrt(Reshape(var) + eps))`` the number is the epsilon of that variance's BatchNormalization."""
    from onnx import TensorProto, numpy_helper

    def stored(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value), name)

    nodes = [
        helper.make_node("Reshape", ["var", "shape"], ["r"]),
        helper.make_node("Add", ["r", "eps"], ["a"]),
        helper.make_node("Sqrt", ["a"], ["s"]),
        helper.make_node("Mul", ["x", "s"], ["y"]),
    ]
    tensors = [stored("var", np.ones(4, np.float32)), stored("shape", np.int64([1, 4])),
               stored("eps", np.float32(1.001e-5))]  # fmt: skip
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy")
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], tensors))
    names = ("bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance")
    native = {name: np.ones(4, np.float32) for name in names}
    facts = joined(from_names(native), from_graph(inventory(model), {"var": names[3]}, native))
    assert [n.eps for n in facts.norms] == [pytest.approx(1.001e-5, rel=1e-7)]


def _folded_in(kind: Any, eps: float, damage: Callable[[Any], None] | None = None) -> tuple[Any, Any]:
    """A convolution and its BatchNormalization in half precision, and the file in which they are one."""
    rng = np.random.default_rng(3)
    native = {
        "conv.weight": rng.standard_normal((16, 8, 3, 3)) * 0.2,
        "bn.weight": rng.uniform(0.5, 1.5, 16),
        "bn.bias": rng.standard_normal(16) * 0.3,
        "bn.running_mean": rng.standard_normal(16) * 0.2,
        "bn.running_var": rng.uniform(0.5, 2, 16),
    }
    native = {name: value.astype(kind) for name, value in native.items()}
    w, gamma, beta, mean, var = native.values()
    factor = gamma / np.sqrt(var + np.asarray(eps, kind))  # each operation rounded to the type, as torch's exporter
    weight, shift = w * factor[:, None, None, None], -mean * factor + beta
    assert weight.dtype == shift.dtype == kind
    if damage:
        damage(weight)
    tensors = [
        helper.make_tensor(n, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), v.shape, v.tobytes(), raw=True)
        for n, v in (("w", weight), ("b", shift))
    ]
    element = tensors[0].data_type
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")], "half",
        [helper.make_tensor_value_info("x", element, [1, 8, 9, 9])],
        [helper.make_tensor_value_info("y", element, [1, 16, 7, 7])], tensors,
    )  # fmt: skip
    return native, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_a_fold_in_half_precision_is_honest(kind: Any) -> None:
    """Weight and shift of a BatchNormalization that was folded in the model's own type are accounted for."""
    found = match(*_folded_in(kind, 1e-5))
    assert not found.faults
    assert [found.of(name).relation.value for name in ("w", "b")] == ["folded", "folded"]  # type: ignore[union-attr]


def test_two_ulp_in_a_half_precision_fold_stand_out() -> None:
    """One element of 1152 is two units in the last place of float16 away from what the artifact's recipe gives."""

    def nudged(weight: Any) -> None:
        weight.view(np.uint16)[5, 3, 1, 1] += 2

    (fault,) = match(*_folded_in(np.float16, 1e-5, nudged)).faults
    assert (fault.initializer, fault.ulp) == ("w", 2)
    assert "[5, 3, 1, 1]" in fault.evidence
