"""Two executions held against each other: error is told at the node that makes it, on either side, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser

from onnxeq.layers.judging.allowed import Allowed
from onnxeq.layers.judging.recomputed import Recomputer
from onnxeq.layers.judging.roles import LOCAL, PROPAGATED
from onnxeq.layers.judging.sweep import EXACT, Found, Values, _Sweep, sweep
from onnxeq.referee import Executor

ort = pytest.importorskip("onnxruntime")

Arrays = dict[str, NDArray[Any]]


class Given(Arrays):
    """Values in memory, as a side."""

    def array(self, name: str, like: object) -> NDArray[Any]:
        """The value."""
        del like
        return self[name]


def random(*shape: int, seed: int = 0, scale: float | None = None) -> NDArray[np.float32]:
    """Weights that keep the size of what goes through them."""
    fan = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
    draw = np.random.default_rng(seed).standard_normal(shape)
    return (draw * ((2 / fan) ** 0.5 if scale is None else scale)).astype(np.float32)


def net(text: str, head: str, **constants: NDArray[Any] | np.generic) -> onnx.ModelProto:
    """A model by its nodes."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> main {head} {{ {text} }}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    onnx.checker.check_model(model)
    return model


def _chain() -> onnx.ModelProto:
    """Convolutions with a residual, a head, a Softmax."""
    text = """
    c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
    r1 = Relu(c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2)
    s = Add(c2, r1)
    r2 = Relu(s)
    p = GlobalAveragePool(r2)
    f = Flatten(p)
    m = MatMul(f, w3)
    n = Add(m, b3)
    y = Softmax(n)
    """
    return net(
        text, "(float[1,3,8,8] x) => (float[1,10] y)", w1=random(16, 3, 3, 3), b1=random(16, seed=1, scale=0.1),
        w2=random(16, 16, 3, 3, seed=2), w3=random(16, 10, seed=3), b3=random(10, seed=4, scale=0.1),
    )  # fmt: skip


def _branch() -> onnx.ModelProto:
    """An If whose branches read what was computed before."""
    text = """
    r = Relu(x)
    sum = ReduceSum <keepdims = 0> (r)
    big = Greater(sum, zero)
    a = If (big) <
      then_branch = yes () => (float[1,12] t) { t1 = MatMul(r, w) t = Tanh(t1) },
      else_branch = no () => (float[1,12] e) { e = Neg(r) }
    >
    m = MatMul(a, v)
    y = Sigmoid(m)
    """
    return net(text, "(float[1,12] x) => (float[1,5] y)", zero=np.float32(0), w=random(12, 12), v=random(12, 5, seed=1))


def _constant_branch() -> onnx.ModelProto:
    """An If on a constant: all that comes in is what its branches read."""
    text = """
    r = Tanh(x)
    q = MatMul(r, w)
    a = If (yes) <
      then_branch = yes () => (float[1,12] t) { t1 = MatMul(q, w) t = Tanh(t1) },
      else_branch = no () => (float[1,12] e) { e = Neg(q) }
    >
    y = MatMul(a, v)
    """
    return net(text, "(float[1,12] x) => (float[1,5] y)", yes=np.array(True), w=random(12, 12), v=random(12, 5, seed=1))


def _loop() -> onnx.ModelProto:
    """A Loop of thirty rounds that reads a value from around it."""
    text = """
    h0 = MatMul(x, w)
    z = Tanh(h0)
    h = Loop (rounds, yes, h0) <
      body = step (int64 i, bool c, float[1,12] a) => (bool d, float[1,12] b) {
        d = Identity(c) b1 = MatMul(a, w) b2 = Add(b1, z) b = Tanh(b2)
      }
    >
    m = MatMul(h, v)
    y = Sigmoid(m)
    """
    return net(
        text, "(float[1,12] x) => (float[1,5] y)", rounds=np.int64(30), yes=np.array(True), w=random(12, 12),
        v=random(12, 5, seed=1),
    )  # fmt: skip


def _lstm() -> onnx.ModelProto:
    """An LSTM with two results that nobody reads."""
    text = """
    s = Tanh(x)
    q, h, c = LSTM <hidden_size = 6> (s, w, r, b)
    t = Squeeze(h, zero)
    m = MatMul(t, v)
    y = Softmax(m)
    """
    return net(
        text, "(float[7,1,4] x) => (float[1,5] y)", w=random(1, 24, 4, scale=0.5),
        r=random(1, 24, 6, scale=0.4, seed=1), b=random(1, 48, seed=2, scale=0.1), v=random(6, 5, seed=3),
        zero=np.array([0]),
    )  # fmt: skip


def _select() -> onnx.ModelProto:
    """Results that jump, and go on as indices."""
    text = """
    m = MatMul(x, w)
    v, i = TopK <axis = 1> (m, k)
    a = ArgMax <axis = 1, keepdims = 1> (m)
    g = GatherElements <axis = 1> (m, a)
    y = Add(v, g)
    """
    return net(text, "(float[4,16] x) => (float[4,3] y, int64[4,3] i)", w=random(16, 20), k=np.array([3]))


def _sequence() -> onnx.ModelProto:
    """A sequence of two tensors of different shapes."""
    text = """
    m = MatMul(x, w)
    l, r = Split <axis = 1, num_outputs = 2> (m)
    t = Tanh(r)
    l2 = Slice(l, one, two, one)
    q = SequenceConstruct(l2, t)
    z = SequenceAt(q, at)
    y = Softmax(z)
    """
    return net(
        text, "(float[4,16] x) => (float[4,10] y)", w=random(16, 20), one=np.array([1]), two=np.array([3]),
        at=np.int64(1),
    )  # fmt: skip


def _masked() -> onnx.ModelProto:
    """A mask of booleans, -inf where it is false, an integer made of it."""
    text = """
    q = MatMul(x, w)
    b = Greater(q, zero)
    k = Where(b, q, never)
    p = Softmax(k)
    c = Cast <to = 6> (b)
    e = Cast <to = 1> (c)
    o = Mul(p, e)
    y = MatMul(o, v)
    """
    return net(
        text, "(float[4,16] x) => (float[4,10] y)", w=random(16, 20), zero=np.float32(0), never=np.float32(-np.inf),
        v=random(20, 10, seed=1),
    )  # fmt: skip


def _scalar() -> onnx.ModelProto:
    """Values of no dimension, an empty one, and a shape computed at run time."""
    text = """
    q = MatMul(x, w)
    s = ReduceSum <keepdims = 0> (q)
    t = Tanh(s)
    u = Mul(q, t)
    z = Slice(u, none, none, one)
    d = Concat <axis = 1> (u, z)
    n = Shape(d)
    y = Reshape(d, n)
    """
    return net(
        text, "(float[4,16] x) => (float[4,20] y)", w=random(16, 20, scale=0.05), none=np.array([0]),
        one=np.array([1]),
    )  # fmt: skip


NETS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "chain": _chain, "branch": _branch, "constant branch": _constant_branch, "loop": _loop, "lstm": _lstm,
    "select": _select, "sequence": _sequence, "masked": _masked, "scalar": _scalar,
}  # fmt: skip


def feed(model: onnx.ModelProto) -> Arrays:
    """Normal deviates."""
    rng = np.random.default_rng(0)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def ran(model: onnx.ModelProto, *, optimize: bool = False, of: onnx.ModelProto | None = None) -> Given:
    """Every value of ``of`` (the model itself) that onnxruntime computes for the model's feed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [n for node in (of or model).graph.node for n in node.output if n]
    own = {v.name for v in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in own)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(names, feed(model))
    return Given({n: v for n, v in zip(names, values, strict=True) if not isinstance(v, list)})


def damaged(model: onnx.ModelProto, value: str, *, within: bool = False) -> onnx.ModelProto:
    """The model with a value three percent off for everybody who reads it; or one inside of a body."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    if within:
        (graph,) = (a.g for n in graph.node for a in n.attribute if any(value in m.output for m in a.g.node))
    copy.graph.initializer.append(numpy_helper.from_array(np.array(1.03, np.float32), "factor"))
    position = next(i for i, n in enumerate(graph.node) if value in n.output)
    node = graph.node[position]
    node.output[list(node.output).index(value)] = "clean"
    graph.node.insert(position + 1, helper.make_node("Mul", ["clean", "factor"], [value], name="damage"))
    return copy


def swept(model: onnx.ModelProto, source: Values, target: Values) -> dict[str, Found]:
    """What is seen at each value."""
    return {f.value: f for f in sweep(Executor(model), model.graph, feed(model), source, target, 0)}


def creating(found: Mapping[str, Found]) -> set[str]:
    """The values with more local error than rounding makes."""
    return {name for name, f in found.items() if f.local.ratio > LOCAL}


def behind(model: onnx.ModelProto, value: str) -> set[str]:
    """The value, and what is computed from it."""
    found = {value}
    for node in model.graph.node:
        if found & Recomputer(Executor(model), model.graph, {})._made & set(_reads(node)):
            found |= set(node.output) - {""}
    return found


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    inner = (n for a in node.attribute for m in a.g.node for n in m.input)
    return (*node.input, *inner)


FLOATS = [
    (net_name, name)
    for net_name, make in NETS.items()
    for name, value in ran(make()).items()
    if value.dtype == np.float32 and value.size and name not in ("z",)
]


@pytest.mark.parametrize("name", NETS)
def test_rounding_is_no_error(name: str) -> None:
    """A runtime against float64, plain and optimised, and one against the other: no local error over a third of the
    limit, and no propagated one.
    """
    model = NETS[name]()
    plain, optimised = ran(model), ran(model, optimize=True)
    for source, target in ((EXACT, plain), (EXACT, optimised), (plain, optimised), (plain, EXACT)):
        found = swept(model, source, target).values()
        local, propagated = (max(getattr(f, key).ratio for f in found) for key in ("local", "propagated"))
        print(f"{name}: largest local error {local:.2f}, propagated {propagated:.2f}")  # noqa: T201
        assert local < LOCAL / 3
        assert propagated < PROPAGATED / 3
        assert not any(f.local.problem or f.propagated.problem for f in found)


@pytest.mark.parametrize("name", NETS)
def test_an_execution_and_itself_are_equal(name: str) -> None:
    """Nothing differs, at any value, and every value that is a tensor was compared."""
    model = NETS[name]()
    values = ran(model)
    found = swept(model, values, Given({k: v.copy() for k, v in values.items()}))
    assert {f.propagated.ratio for f in found.values()} == {0.0}
    assert {f.local.ratio for f in found.values()} == {0.0}
    assert found.keys() == values.keys()
    assert {f.known for f in found.values()} == {(True, True)}


@pytest.mark.parametrize(("name", "value"), FLOATS)
def test_a_fault_of_the_target_is_told_at_its_node_alone(name: str, value: str) -> None:
    """Whichever value of the target is 3 % off: local error there and nowhere else, by the target and not by the
    source; as it ran, the sides part there, and not at what does not depend on it.
    """
    model = NETS[name]()
    target = ran(damaged(model, value), of=model)
    for source in (EXACT, ran(model)):
        found = swept(model, source, target)
        assert creating(found) == {value}
        assert found[value].target.ratio > LOCAL >= found[value].source.ratio
        parted = {n for n, f in found.items() if f.propagated.ratio > PROPAGATED}
        assert value in parted
        assert parted <= behind(model, value)


@pytest.mark.parametrize(("name", "value"), FLOATS)
def test_a_fault_of_the_source_is_told_at_its_node_alone(name: str, value: str) -> None:
    """The same with the source 3 % off."""
    model = NETS[name]()
    found = swept(model, ran(damaged(model, value), of=model), ran(model))
    assert creating(found) == {value}
    assert found[value].source.ratio > LOCAL >= found[value].target.ratio
    parted = {n for n, f in found.items() if f.propagated.ratio > PROPAGATED}
    assert value in parted
    assert parted <= behind(model, value)


@pytest.mark.parametrize(("name", "inner", "outer"), [("branch", "t1", "a"), ("constant branch", "t1", "a"),
                                                      ("loop", "b1", "h")])  # fmt: skip
def test_a_fault_inside_of_a_body_is_told_at_the_node_that_holds_it(name: str, inner: str, outer: str) -> None:
    """A product inside of an If or of a Loop is 3 % off in the target."""
    model = NETS[name]()
    target = ran(damaged(model, inner, within=True), of=model)
    for source in (EXACT, ran(model)):
        assert creating(swept(model, source, target)) == {outer}


def test_what_came_in_is_no_error_of_a_body() -> None:
    """A value that only a branch reads differs: the If hands it on, however much that is."""
    model = _constant_branch()
    found = swept(model, EXACT, ran(damaged(model, "r"), of=model))
    assert creating(found) == {"r"}
    assert found["a"].local.ratio < 1 < PROPAGATED < found["a"].propagated.ratio


def without(values: Given, *names: str) -> Given:
    """The side without some values."""
    return Given({k: v for k, v in values.items() if k not in names})


def test_what_one_side_has_lost_is_judged_at_the_next_value_that_both_have() -> None:
    """The target, or the source, has no ``c2``, and what is 3 % off there is told at the sum behind it, as a region."""
    model = _chain()
    healthy, faulty = ran(model), without(ran(damaged(model, "c2"), of=model), "c2")
    found = swept(model, healthy, faulty)
    assert creating(found) == {"s"}
    assert found["s"].regions == ((), ("making 'c2'",))
    assert found["c2"].known == (True, False)
    found = swept(model, faulty, healthy)
    assert creating(found) == {"s"}
    assert found["s"].regions == (("making 'c2'",), ())


def test_a_region_may_have_many_nodes_and_more_than_one_end() -> None:
    """Two values are lost, or one that two others read: a fault there is told at the end, and rounding is not."""
    model = _chain()
    lost = ("r1", "c2")
    healthy, faulty = without(ran(model), *lost), without(ran(damaged(model, "r1"), of=model), *lost)
    assert creating(swept(model, ran(model), healthy)) == set()
    found = swept(model, ran(model), faulty)
    assert creating(found) == {"s"}
    assert set(found["s"].regions[1]) == {"making 'r1'", "making 'c2'"}
    model = _loop()
    found = swept(model, ran(model), without(ran(damaged(model, "h0"), of=model), "h0"))
    assert creating(found) == {"z"}  # thirty rounds forget what they began with
    assert found["h"].regions[1] == ("making 'h0'",)


def test_a_value_that_neither_side_has_is_not_listed() -> None:
    """Both have lost it: what is behind it is judged, and not itself."""
    model = _chain()
    found = swept(model, without(ran(model), "c2"), without(ran(damaged(model, "c2"), of=model), "c2"))
    assert "c2" not in found
    assert creating(found) == {"s"}


def test_two_faults_are_two() -> None:
    """The second is not covered by the first, which reaches it."""
    model = _chain()
    target = ran(damaged(model, "c1"), of=model)
    target["m"] = target["m"] * np.float32(1.001)
    target["n"] = target["m"] + numpy_helper.to_array(model.graph.initializer[4])
    assert creating(swept(model, EXACT, target)) == {"c1", "m", "y"}  # y is what it was for the old m


@pytest.mark.parametrize("value", ["b", "c"])
def test_a_boolean_or_an_integer_that_is_wrong_is_told(value: str) -> None:
    """One element of the mask, or of the integers made of it, is another one than its node makes."""
    model = _masked()
    target = ran(model)
    target[value] = target[value].copy()
    target[value].flat[3] ^= True
    found = swept(model, EXACT, target)
    behind_it = {"b": {"b", "k", "c"}, "c": {"c", "e"}}[value]  # what did not follow it is wrong as well
    assert creating(found) == behind_it
    assert "1 of 80 elements, first at [0, 3]" in found[value].local.problem


def test_an_index_that_is_wrong_is_told() -> None:
    """ArgMax gives the smallest of twenty."""
    model = _select()
    target = ran(model)
    target["a"] = target["m"].argmin(axis=1, keepdims=True)
    assert creating(swept(model, EXACT, target)) == {"a", "g"}


def _ties() -> tuple[onnx.ModelProto, Arrays]:
    """Quotients that float32 rounds to a half, which float64 does not."""
    scale = np.float32(0.1)
    x = ((np.arange(200, dtype=np.float32) + np.float32(0.5)) * scale).astype(np.float32)
    text = "q = QuantizeLinear(x, scale, zero)\ny = DequantizeLinear(q, scale, zero)"
    head = "(float[200] x) => (float[200] y)"
    return net(text, head, scale=scale, zero=np.uint8(0)), {"x": x}


def test_a_decision_beside_a_tie_is_no_error() -> None:
    """Dividing by 0.1 brings two hundred elements to a half; some are rounded up in float32 and down in float64."""
    model, given = _ties()
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y = session.run(None, given)[0]
    q = np.round(y / np.float32(0.1)).astype(np.uint8)
    exact = Executor(model).run(given, outputs=["q"])["q"]
    assert 0 < np.count_nonzero(exact != q) < 200
    assert abs(exact.astype(int) - q).max() == 1
    found = {f.value: f for f in sweep(Executor(model), model.graph, given, EXACT, Given(q=q, y=y), 0)}
    assert creating(found) == set()
    assert found["q"].note == "beside a tie"
    q[0] += 2  # further than a tie
    found = {f.value: f for f in sweep(Executor(model), model.graph, given, EXACT, Given(q=q, y=y), 0)}
    assert creating(found) == {"q", "y"}


def test_a_tie_inside_of_a_region_is_no_error() -> None:
    """The product before Round is lost, and one of its elements is as near to a half as float32 can tell."""
    w = np.array([[0.5, 2.5 + 2.0**-22, 1.2]], np.float32)
    model = net("p = Mul(x, w)\nq = Mul(p, third)\nz = Mul(q, three)\ny = Round(z)", "(float[1,3] x) => (float[1,3] y)",
                w=w, third=np.float32(1 / 3), three=np.float32(3))  # fmt: skip
    given = {"x": np.ones((1, 3), np.float32)}
    for wrong, expected in ((2.0, set()), (3.0, set()), (30.0, {"y"})):
        target = Given(y=np.array([[0.0, wrong, 1.0]], np.float32))
        found = {f.value: f for f in sweep(Executor(model), model.graph, given, EXACT, target, 0)}
        assert creating(found) == expected, wrong


def test_values_of_another_shape_or_type_are_wrong_and_do_not_break_the_pass() -> None:
    """What a side has under a value's name is something else: told there, and judged on behind it."""
    model = _chain()
    for other in (np.zeros((1, 16, 4, 4), np.float32), np.zeros((1, 16, 8, 8), np.int64), np.zeros((), np.float32)):
        for side in (0, 1):
            sides: list[Given] = [ran(model), ran(model)]
            sides[side]["r1"] = other
            found = swept(model, sides[0], sides[1])
            assert "r1" in creating(found)
            assert "y" in found


def test_shapes_that_follow_from_the_values_are_no_error() -> None:
    """NonZero finds one element more on one side, since what came in has one more."""
    model = net("r = Relu(x)\nn = NonZero(r)\ny = Cast <to = 1> (n)", "(float[2,6] x) => (float[2,k] y)")
    target = ran(model)
    for name in ("n", "y"):
        target[name] = target[name][:, 1:]
    found = swept(model, EXACT, target)
    assert creating(found) == {"n"}  # r is the same, so n should be
    target["r"] = target["r"].copy()
    target["r"].flat[np.flatnonzero(target["r"])[0]] = 0.0
    assert creating(swept(model, EXACT, target)) == {"r"}


def test_a_layer_that_makes_errors_grow_is_told() -> None:
    """``1 - x`` for ``x`` near 1: a relative error of 1e-5 becomes one of 1e-2, and none of that is its own."""
    model = net("a = Tanh(x)\nd = Sub(one, a)\ny = Mul(d, two)", "(float[1,50] x) => (float[1,50] y)",
                one=np.float32(1), two=np.float32(2))  # fmt: skip
    values = {"x": np.full((1, 50), 3.8, np.float32)}
    exact = Executor(model).run(values, outputs=["a"])["a"]
    a = (exact * (1 + 1e-5)).astype(np.float32)
    d = np.float32(1) - a
    found = {
        f.value: f for f in sweep(Executor(model), model.graph, values, EXACT, Given(a=a, d=d, y=d * np.float32(2)), 0)
    }
    assert creating(found) == {"a"}
    grown = float(np.mean(exact / (1 - exact)))  # d(1-a)/(1-a) = -a/(1-a) * da/a
    assert found["d"].condition == pytest.approx(grown, rel=0.01)
    assert found["y"].condition == pytest.approx(1.0, rel=1e-6)
    assert np.isnan(found["a"].condition)


class _Watched(_Sweep):
    """Counts how many values the pass holds."""

    most = 0

    def node(self, info: Any, inputs: Any, outputs: Any) -> Any:
        """As the pass."""
        given = super().node(info, inputs, outputs)
        self.most = max(self.most, len(held(self)))
        return given


def held(hook: _Sweep) -> set[str]:
    """Names of the values that the pass has."""
    chains = [d for c in hook._chains for d in (c.values, c.moved, c.region)]
    return {n for d in (*chains, hook._drift, hook._again._kept) for n in d}


def watched(model: onnx.ModelProto, source: Values, target: Values) -> _Watched:
    """The hook after a run."""
    executor = Executor(model)
    hook = _Watched(Recomputer(executor, model.graph, feed(model)), model.graph, (source, target), 0, Allowed())
    with hook:
        executor.run(feed(model), hook=hook)
        hook.found()
    return hook


@pytest.mark.parametrize("name", NETS)
def test_values_are_forgotten(name: str) -> None:
    """At the end the pass has only the outputs, also where a node has results that nobody reads."""
    model = NETS[name]()
    outputs = {o.name for o in model.graph.output}
    values = ran(model)
    assert held(watched(model, values, without(values, *list(values)[1:3]))) == outputs


def test_a_deep_model_is_never_all_in_memory() -> None:
    """Of two hundred values in a row at most four are held at a time; a node that is not run keeps nothing alive."""
    rows = [f"v{i + 1} = Tanh(v{i})" for i in range(200)]
    rows += ["dead = Add(v1, v2)", "y = Neg(v200)"]
    model = net("\n".join(rows).replace("(v0)", "(x)"), "(float[1,3] x) => (float[1,3] y)")
    hook = watched(model, ran(model), EXACT)
    assert hook.most <= 4
    assert held(hook) == {"y"}
