"""Healthy graphs of one to three operators that add many terms up, on data that float32 sums like and dislike.

Random signs cancel, positive terms do not, and nearly equal ones round the same way again and again.
"""

from collections.abc import Iterator

from operator_cases import Case

EXPORTERS = ("dynamo",)
"""Both write the same operators for these; only the numbers matter."""

_DATA = {
    "zero mean": "n({})",
    "positive": "u(0,1,{})",
    "near": "u(0.999,1.001,{})",
    "equal": "u(0.1,0.1,{})",
    "far": "n({}) + a(100.0)",
}

_ROWS = (
    ("mean", "x.mean(-1)", "4,{n}", (20_000, 1_000_000)),
    ("sum strided", "x.sum(0)", "{n},8", (20_000,)),
    ("sum of squares", "x.square().sum(-1)", "4,{n}", (20_000,)),
    ("norm", "x.norm(dim=-1)", "4,{n}", (20_000, 1_000_000)),
    ("norm 1", "x.norm(p=1, dim=-1)", "4,{n}", (20_000,)),
    ("logsumexp", "x.logsumexp(-1)", "4,{n}", (20_000, 1_000_000)),
    ("variance", "x.var(-1, correction=0)", "4,{n}", (20_000,)),
    ("cumsum", "x.cumsum(1)", "4,{n}", (20_000,)),
    ("softmax", "x.softmax(-1)", "4,{n}", (50_000,)),
    ("log_softmax mean", "x.log_softmax(-1).mean(-1)", "4,{n}", (50_000,)),
    ("normalize", "F.normalize(x, dim=-1)", "4,{n}", (50_000,)),
    ("layer_norm", "F.layer_norm(x, x.shape[-1:])", "4,{n}", (768, 20_000)),
    ("layer_norm relu mean", "F.relu(F.layer_norm(x, x.shape[-1:])).mean(-1)", "4,{n}", (768, 20_000)),
    ("rms_norm", "F.rms_norm(x, x.shape[-1:], eps=1e-5)", "4,{n}", (768, 20_000)),
    ("global pool", "F.adaptive_avg_pool2d(x, 1)", "1,8,{n},{n}", (7, 150)),
    ("average pool", "F.avg_pool2d(x, {n})", "1,4,{n},{n}", (7, 150)),
    ("instance_norm relu mean", "F.relu(F.instance_norm(x)).mean((2, 3))", "1,4,{n},{n}", (32, 512)),
    ("group_norm 1 relu mean", "F.relu(F.group_norm(x, 1)).mean((2, 3))", "1,4,{n},{n}", (32, 224)),
    ("group_norm 2 relu mean", "F.relu(F.group_norm(x, 2)).mean((2, 3))", "1,4,{n},{n}", (32, 224)),
    ("bicubic", "F.interpolate(x, scale_factor={n}, mode='bicubic')", "1,2,7,7", (5, 50)),
    ("bilinear mean", "F.interpolate(x, scale_factor={n}, mode='bilinear').mean((2, 3))", "1,2,16,16", (16,)),
    ("lstm", "m(x)[0]", "{n},1,16", (500,), "m = nn.LSTM(16, 32)"),
    ("gru mean", "m(x)[0].mean(0)", "{n},1,16", (500,), "m = nn.GRU(16, 32)"),
)  # fmt: skip
_PRODUCTS = (
    ("matmul", "x @ w", "4,{n}", "n({n},16)", (4_096, 100_000)),
    ("matmul one row", "x @ w", "1,{n}", "u(0,1,{n},1)", (4_096, 100_000)),
    ("matmul by equal weights", "x @ w", "4,{n}", "u(0.3,0.3,{n},16)", (4_096,)),
    ("einsum", "torch.einsum('bi,bi->b', x, w)", "4,{n}", "u(0,1,4,{n})", (100, 100_000)),
    ("conv2d", "F.conv2d(x, w)", "1,{n},5,5", "n(4,{n},3,3)", (455, 11_111)),
    ("conv2d depthwise", "F.conv2d(x, w, groups=4)", "1,4,{n},{n}", "u(0,1,4,1,{n},{n})", (7, 200)),
    ("attention", "(x @ w.transpose(1, 2) * 0.125).softmax(-1) @ w", "1,16,64", "u(0,1,1,{n},64)", (128, 4_096)),
)
_FUNCTIONS = (
    ("product", "x.prod(-1)", "x=u(0.9,1.1,4,1000)"),
    ("exp of large", "x.exp()", "x=u(60,87,4,1000)"),
    ("exp of very negative", "x.exp()", "x=u(-87,-60,4,1000)"),
    ("pow of large", "x ** 3.7", "x=u(1,10000,4,1000)"),
    ("pow of exponents", "1.1 ** x", "x=u(100,900,4,1000)"),
    ("sin of large", "x.sin()", "x=u(0,1e6,4,1000)"),
    ("cos of large", "x.cos()", "x=u(0,1e8,4,1000)"),
    ("sin of a product", "(x * 1.7).sin()", "x=u(0,1e4,4,1000)"),
    ("erf", "x.erf()", "x=u(-10,10,4,1000)"),
    ("gelu", "F.gelu(x)", "x=u(-10,10,4,1000)"),
    ("gelu tanh", "F.gelu(x, approximate='tanh')", "x=u(-10,10,4,1000)"),
    ("log near one", "x.log()", "x=u(0.999,1.001,4,1000)"),
    ("batch_norm small variances", "F.batch_norm(x, m, v)", "x=n(2,8,32,32), m=n(8), v=u(1e-6,1e-5,8)"),
)


def _all() -> Iterator[Case]:
    for label, expression, shape, sizes, *setup in _ROWS:
        for n in sizes:
            for kind, data in _DATA.items():
                x = data.format(shape.format(n=n))
                yield Case(f"{label} {n} {kind}", expression.format(n=n), (f"x={x}",), *setup)
    for label, expression, shape, weights, sizes in _PRODUCTS:
        for n in sizes:
            for kind, data in _DATA.items():
                x = data.format(shape.format(n=n))
                yield Case(f"{label} {n} {kind}", expression, (f"x={x}, w={weights.format(n=n)}",))
    for label, expression, feed in _FUNCTIONS:
        yield Case(label, expression, (feed,))


CASES = tuple(_all())
