"""One network written in two ways is equivalent after normalisation; the referee is the witness that it is.

Every pair here has the same weights on both sides, so that both graphs must give the same numbers in float64; what
is *not* the same network must be told apart however alike it looks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxeq.compare.values import Same
from onnxeq.referee import Executor

from .conftest import Held, Net

Model = onnx.ModelProto
Write = Callable[[Net], str]

_SHAPE = (1, 3, 12, 12)


def _net(write: Write, *, opset: int = 17) -> Model:
    net = Net(*_SHAPE, opset=opset)
    return net.model(write(net))


def _conv(
    net: Net, x: str = "x", name: str = "c", inner: int = 3, out: int = 6, kernel: int = 3, **more: object
) -> str:
    return net.conv(x, name, inner, out, kernel, **more)  # type: ignore[arg-type]


def _number(net: Net, value: float) -> str:
    return net.store(f"k{len(net.stored)}", np.float32(value))


def _whole(net: Net, *values: int) -> str:
    return net.store(f"i{len(net.stored)}", np.array(values, np.int64))


def _act(write: Callable[[Net, str], str]) -> Write:
    return lambda net: write(net, _conv(net))


def _turned(net: Net, x: str, *perm: int) -> str:
    return net.node("Transpose", [x], perm=list(perm))


def _spelled_norm(net: Net, x: str, channels: tuple[int, ...], epsilon: float) -> str:
    scale, variance = (net.weight(f"n.{n}", 6, positive=True) for n in ("weight", "running_var"))
    shift, mean = (net.weight(f"n.{n}", 6) for n in ("bias", "running_mean"))

    def shaped(name: str) -> str:
        return net.node("Reshape", [name, _whole(net, *channels)])

    root = net.node("Reciprocal", [net.node("Sqrt", [net.node("Add", [shaped(variance), _number(net, epsilon)])])])
    factor = net.node("Mul", [root, shaped(scale)])
    offset = net.node("Sub", [shaped(shift), net.node("Mul", [shaped(mean), factor])])
    return net.node("Add", [net.node("Mul", [x, factor]), offset])


def _channels_last(net: Net) -> str:
    x = net.node("Relu", [_turned(net, _conv(net), 0, 2, 3, 1)])
    net.weight("s", 6)
    x = net.node("Add", [x, net.store("c.shift", net.stored.pop("s"))])
    return _turned(net, net.node("Concat", [x, x], axis=3), 0, 3, 1, 2)


def _channels_first(net: Net) -> str:
    x = net.node("Relu", [_conv(net)])
    net.weight("s", 6)
    x = net.node("Add", [x, net.store("c.shift", net.stored.pop("s").reshape(6, 1, 1))])
    return net.node("Concat", [x, x], axis=1)


def _padded(net: Net, x: str, *amounts: int, value: float = 0.0) -> str:
    return net.node("Pad", [x, _whole(net, *amounts), _number(net, value)])


def _max_pool(net: Net, x: str, pads: int) -> str:
    return net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[pads] * 4)


def _gated(net: Net, form: str) -> str:
    x = _conv(net)
    pooled = net.node("GlobalAveragePool", [x])
    if form == "1x1 convolution":
        gate = net.conv(pooled, "g", 6, 6, 1, bias=True)
    else:
        flat = net.node("Flatten", [pooled])
        net.weight("g.weight", 6, 6, 1, 1)
        net.stored["g.weight"] = net.stored["g.weight"].reshape(6, 6)
        dense = net.node("Gemm", [flat, "g.weight", net.weight("g.bias", 6)], transB=1)
        gate = net.node("Reshape", [dense, _whole(net, 1, 6, 1, 1)])
    return net.node("Mul", [x, net.node("Sigmoid", [gate])])


def _half_erf(net: Net, x: str) -> str:
    inner = net.node("Erf", [net.node("Div", [x, _number(net, 2**0.5)])])
    return net.node("Mul", [x, net.node("Mul", [net.node("Add", [inner, _number(net, 1)]), _number(net, 0.5)])])


def _by_tanh(net: Net, x: str, form: str) -> str:
    """GELU by tanh: the cube as a power or as products, or the polynomial with ``x`` taken out."""
    root, cubic = (2 / np.pi) ** 0.5, 0.044715
    products = net.node("Mul", [net.node("Mul", [x, x]), x])
    cube = net.node("Pow", [x, _number(net, 3.0)]) if form == "power" else products
    inner = net.node("Mul", [net.node("Add", [x, net.node("Mul", [_number(net, cubic), cube])]), _number(net, root)])
    if form == "taken out":
        square = net.node("Mul", [net.node("Mul", [x, _number(net, cubic)]), x])
        inner = net.node(
            "Mul", [net.node("Mul", [x, _number(net, root)]), net.node("Add", [_number(net, 1.0), square])]
        )
    gate = net.node("Add", [_number(net, 1.0), net.node("Tanh", [inner])])
    return net.node("Mul", [net.node("Mul", [_number(net, 0.5), x]), gate])


def _hard(net: Net, x: str) -> str:
    shifted = net.node("Add", [x, _number(net, 3)])
    clipped = net.node("Clip", [shifted, _number(net, 0), _number(net, 6)])
    return net.node("Mul", [net.node("Mul", [x, clipped]), _number(net, 1 / 6)])


def _branches(net: Net, order: tuple[str, ...]) -> str:
    made = {}
    for name in order:
        made[name] = _conv(net, name=name, kernel=3 if name == "a" else 1)
    long = _conv(net, made["a"], "a2", 6)
    return net.node("Add", [long, made["b"]] if order[0] == "a" else [made["b"], long])


def _added_bias(net: Net) -> str:
    net.weight("c.bias", 6)
    return net.node("Add", [_conv(net), net.store("b", net.stored.pop("c.bias").reshape(6, 1, 1))])


def _made_up_bias(net: Net) -> str:
    zeros = net.node("Expand", [_number(net, 0), _whole(net, 6)])
    return net.node("Conv", ["x", net.weight("c.weight", 6, 3, 3, 3), zeros], pads=[1] * 4)


def _moments(net: Net, x: str, axis: int) -> tuple[str, str, str]:
    """Mean, what is away from it, and the variance along an axis."""
    mean = net.node("ReduceMean", [x], axes=[axis])
    away = net.node("Sub", [x, mean])
    return mean, away, net.node("ReduceMean", [net.node("Mul", [away, away])], axes=[axis])


def _layer_norm(net: Net, form: str) -> str:
    """Over the channels of a map: as a node, as a quotient, and as TensorFlow's product with Transposes of its own."""
    conv = _conv(net)
    x = _turned(net, conv, 0, 2, 3, 1)
    scale, shift = net.weight("n.weight", 6), net.weight("n.bias", 6)
    if form == "node":
        y = net.node("LayerNormalization", [x, scale, shift], epsilon=1e-3)
        return _turned(net, y, 0, 3, 1, 2)
    mean, away, variance = _moments(net, x, 3)
    root = net.node("Sqrt", [net.node("Add", [variance, _number(net, 1e-3)])])
    if form == "quotient":
        y = net.node("Add", [net.node("Mul", [net.node("Div", [away, root]), scale]), shift])
    else:
        again = _turned(net, conv, 0, 2, 3, 1)
        factor = net.node("Mul", [net.node("Reciprocal", [root]), scale])
        offset = net.node("Add", [net.node("Mul", [net.node("Neg", [mean]), factor]), shift])
        y = net.node("Add", [net.node("Mul", [again, factor]), offset])
    return _turned(net, y, 0, 3, 1, 2)


def _by_rows(net: Net) -> str:
    """A dense layer along the channels of a map, whose places are rows of a matrix in between."""
    x = _turned(net, _conv(net), 0, 2, 3, 1)
    net.weight("d.weight", 5, 6, 1, 1)
    net.store("d.matrix", np.ascontiguousarray(net.stored.pop("d.weight").reshape(5, 6).T))
    rows = net.node("MatMul", [net.node("Reshape", [x, _whole(net, -1, 6)]), "d.matrix"])
    return _turned(net, net.node("Reshape", [rows, _whole(net, 1, 12, 12, 5)]), 0, 3, 1, 2)


def _all_in_order(net: Net) -> str:
    flat = net.node("Reshape", [_conv(net), _whole(net, -1)])
    return net.node("Gather", [flat, net.store("all", np.arange(864).reshape(1, 6, 12, 12))])


def _minus_erf(net: Net, x: str) -> str:
    inner = net.node("Erf", [net.node("Mul", [net.node("Neg", [x]), _number(net, 0.5**0.5)])])
    return net.node("Mul", [net.node("Mul", [_number(net, 0.5), x]), net.node("Sub", [_number(net, 1), inner])])


SAME: dict[str, tuple[Write, Write]] = {
    "channels last": (_channels_first, _channels_last),
    "a Pad node": (_conv, lambda n: _conv(n, _padded(n, "x", 0, 0, 1, 1, 0, 0, 1, 1), pads=[0] * 4)),
    "a rule for padding": (
        lambda n: _conv(n, stride=2, pads=[0, 0, 1, 1]),
        lambda n: _conv(n, stride=2, auto_pad="SAME_UPPER"),
    ),
    "padding that nothing reads": (lambda n: _conv(n, stride=2), lambda n: _conv(n, stride=2, pads=[1, 1, 0, 0])),
    "zeros before a maximum": (
        lambda n: _max_pool(n, n.node("Relu", [_conv(n)]), 1),
        lambda n: _max_pool(n, _padded(n, n.node("Relu", [_conv(n)]), 0, 0, 1, 1, 0, 0, 1, 1), 0),
    ),
    "a bias added behind": (
        lambda n: _conv(n, bias=True),
        _added_bias,
    ),
    "a spelled-out BatchNorm": (
        lambda n: n.norm(_conv(n), "n", 6, 1e-3),
        lambda n: _spelled_norm(n, _conv(n), (1, 6, 1, 1), 1e-3),
    ),
    "a spelled-out BatchNorm with channels last": (
        lambda n: n.norm(_conv(n), "n", 6, 1e-3),
        lambda n: _turned(n, _spelled_norm(n, _turned(n, _conv(n), 0, 2, 3, 1), (1, 1, 1, 6), 1e-3), 0, 3, 1, 2),
    ),
    "relu6": (
        _act(lambda n, x: n.node("Clip", [x, _number(n, 0), _number(n, 6)])),
        _act(lambda n, x: n.node("Min", [n.node("Max", [x, _number(n, 0)]), _number(n, 6)])),
    ),
    "relu as Max": (_act(lambda n, x: n.node("Relu", [x])), _act(lambda n, x: n.node("Max", [x, _number(n, 0)]))),
    "hard swish": (_act(lambda n, x: n.node("HardSwish", [x])), _act(_hard)),
    "silu": (
        _act(lambda n, x: n.node("Mul", [x, n.node("Sigmoid", [x])])),
        _act(lambda n, x: n.node("Mul", [n.node("Sigmoid", [x]), x])),
    ),
    "gelu": (
        _act(_half_erf),
        _act(lambda n, x: n.node("Mul", [n.node("Mul", [x, _number(n, 0.5)]), n.node("Add", [
            n.node("Erf", [n.node("Mul", [x, _number(n, 0.5**0.5)])]), _number(n, 1)])])),
    ),
    **{
        f"gelu by tanh, {form}": (
            _act(lambda n, x: n.node("Gelu", [x], approximate="tanh")),
            _act(lambda n, x, form=form: _by_tanh(n, x, form)),  # type: ignore[misc]
        )
        for form in ("power", "products", "taken out")
    },
    "gelu with one minus": (_act(_half_erf), _act(_minus_erf)),
    "a layer normalisation as a quotient": (lambda n: _layer_norm(n, "node"), lambda n: _layer_norm(n, "quotient")),
    "a layer normalisation as a product": (lambda n: _layer_norm(n, "node"), lambda n: _layer_norm(n, "product")),
    "a dense layer over rows": (lambda n: _conv(n, _conv(n), "d", 6, 5, 1), _by_rows),
    "all in order": (_conv, _all_in_order),
    "times one": (_conv, _act(lambda n, x: n.node("Mul", [x, _number(n, 1)]))),
    "leaky relu": (
        _act(lambda n, x: n.node("LeakyRelu", [x], alpha=0.2)),
        _act(lambda n, x: n.node("Max", [x, n.node("Mul", [x, _number(n, 0.2)])])),
    ),
    "mean over the map": (
        _act(lambda n, x: n.node("GlobalAveragePool", [x])),
        _act(lambda n, x: n.node("AveragePool", [x], kernel_shape=[12, 12])),
    ),
    "mean over axes": (
        _act(lambda n, x: n.node("Flatten", [n.node("GlobalAveragePool", [x])])),
        _act(lambda n, x: n.node("ReduceMean", [_turned(n, x, 0, 2, 3, 1)], axes=[1, 2], keepdims=0)),
    ),
    "a gate": (lambda n: _gated(n, "1x1 convolution"), lambda n: _gated(n, "dense")),
    "a concatenation of a concatenation": (
        lambda n: n.node("Concat", [_conv(n, name="a"), _conv(n, name="b"), _conv(n, name="c")], axis=1),
        lambda n: n.node("Concat", [n.node("Concat", [_conv(n, name="a"), _conv(n, name="b")], axis=1),
                                    _conv(n, name="c")], axis=1),
    ),
    "the order of branches": (lambda n: _branches(n, ("a", "b")), lambda n: _branches(n, ("b", "a"))),
    "a pooling of single elements": (_conv, _act(lambda n, x: n.node("AveragePool", [x], kernel_shape=[1, 1]))),
    "Dropout in inference": (_conv, _act(lambda n, x: n.node("Dropout", [x]))),
    "a zero in place of a bias": (
        _conv,
        _made_up_bias,
    ),
}  # fmt: skip


def _run(model: Model) -> np.ndarray:
    feed = np.random.default_rng(3).standard_normal(_SHAPE).astype(np.float32)
    (value,) = Executor(model).run({"x": feed}).values()
    return np.asarray(value)


def _opset(name: str) -> int:
    return 20 if name == "hard swish" or "gelu" in name else 17


@pytest.mark.parametrize("name", SAME)
def test_another_spelling_is_the_same_network(name: str, held: Held) -> None:
    """Both are computed alike to float64 rounding (constants rounded to float32), and are called equivalent."""
    a, b = (_net(write, opset=_opset(name)) for write in SAME[name])
    mine, theirs = _run(a).reshape(-1), _run(b).reshape(-1)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6 * np.abs(mine).max())
    pair = held(a, b)
    assert pair.same in (Same.EQUIVALENT, Same.IDENTICAL), [d.sentence for d in pair.differences]
    assert held(a, a).same is Same.IDENTICAL


def _layer_norm_of_another(net: Net) -> str:
    """The variance of something else."""
    x = _turned(net, _conv(net), 0, 2, 3, 1)
    _, away, _ = _moments(net, x, 3)
    _, _, variance = _moments(net, net.node("Relu", [x]), 3)
    root = net.node("Sqrt", [net.node("Add", [variance, _number(net, 1e-3)])])
    scaled = net.node("Mul", [net.node("Div", [away, root]), net.weight("n.weight", 6)])
    return _turned(net, net.node("Add", [scaled, net.weight("n.bias", 6)]), 0, 3, 1, 2)


DIFFERENT: dict[str, tuple[Write, Write]] = {
    "a normalisation by the variance of something else": (lambda n: _layer_norm(n, "node"), _layer_norm_of_another),
    "a normalisation along another axis": (
        lambda n: n.norm(_turned(n, _conv(n, out=12, name="c"), 0, 1, 2, 3), "n", 12),
        lambda n: _turned(n, n.norm(_turned(n, _conv(n, out=12, name="c"), 0, 3, 1, 2), "n", 12), 0, 2, 3, 1),
    ),
    "padding at the other end": (
        lambda n: _conv(n, stride=2, auto_pad="SAME_UPPER"),
        lambda n: _conv(n, stride=2, auto_pad="SAME_LOWER"),
    ),
    "padding with ones": (_conv, lambda n: _conv(n, _padded(n, "x", 0, 0, 1, 1, 0, 0, 1, 1, value=1.0), pads=[0] * 4)),
    "zeros before a maximum of what may be negative": (
        lambda n: _max_pool(n, _conv(n), 1),
        lambda n: _max_pool(n, _padded(n, _conv(n), 0, 0, 1, 1, 0, 0, 1, 1), 0),
    ),
    "an average that counts its padding": (
        _act(lambda n, x: n.node("AveragePool", [x], kernel_shape=[3, 3], pads=[1] * 4)),
        _act(lambda n, x: n.node("AveragePool", [x], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)),
    ),
    "a concatenation in another order": (
        lambda n: n.node("Concat", [_conv(n, name="a"), _conv(n, "x", "b", kernel=1)], axis=1),
        lambda n: n.node("Concat", [_conv(n, "x", "b", kernel=1), _conv(n, name="a")], axis=1),
    ),
    "a softmax over another axis": (
        _act(lambda n, x: n.node("Softmax", [x], axis=1)),
        _act(lambda n, x: n.node("Softmax", [x], axis=3)),
    ),
    "elements flattened in another order": (
        _act(lambda n, x: n.node("Flatten", [x])),
        _act(lambda n, x: n.node("Flatten", [_turned(n, x, 0, 2, 3, 1)])),
    ),
    "a height that is a width": (_conv, _act(lambda n, x: _turned(n, x, 0, 1, 3, 2))),
    "a subtraction the other way round": (
        lambda n: n.node("Sub", [_conv(n, name="a"), _conv(n, name="b", kernel=1)]),
        lambda n: n.node("Sub", [_conv(n, name="b", kernel=1), _conv(n, name="a")]),
    ),
    "another slope": (
        _act(lambda n, x: n.node("LeakyRelu", [x], alpha=0.2)),
        _act(lambda n, x: n.node("LeakyRelu", [x], alpha=0.1)),
    ),
    "gelu by a tanh of another polynomial": (
        _act(lambda n, x: n.node("Gelu", [x], approximate="tanh")),
        _act(
            lambda n, x: n.node(
                "Mul",
                [
                    n.node("Mul", [_number(n, 0.5), x]),
                    n.node("Add", [_number(n, 1.0), n.node("Tanh", [n.node("Mul", [x, _number(n, 0.8)])])]),
                ],
            )
        ),
    ),
    "gelu by tanh": (
        _act(lambda n, x: n.node("Gelu", [x])),
        _act(lambda n, x: n.node("Gelu", [x], approximate="tanh")),
    ),
    "one layer that is read twice": (
        lambda n: n.node("Add", [n.node("Relu", [_conv(n, name="a")]), n.node("Sigmoid", [_conv(n, name="b")])]),
        lambda n: (lambda x: n.node("Add", [n.node("Relu", [x]), n.node("Sigmoid", [x])]))(_conv(n, name="a")),
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_only_looks_alike_is_told_apart(name: str, held: Held) -> None:
    """Networks that compute something else are different, with at least one sentence that says how."""
    a, b = (_net(write, opset=20 if "gelu" in name else 17) for write in DIFFERENT[name])
    pair = held(a, b)
    assert pair.same is Same.DIFFERENT
    assert pair.differences
    if name != "one layer that is read twice":  # whose weights are its own
        mine, theirs = _run(a).reshape(-1), _run(b).reshape(-1)
        assert mine.shape != theirs.shape or np.abs(mine - theirs).max() > 1e-4
