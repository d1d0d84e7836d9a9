"""Faults of the runtime: the file is right, a runner computes one of its nodes wrongly.

A site is used when the fault moves an output there by far more than rounding for every one of several inputs. A fault
that touches few elements (values below a bound are flushed) shows for some inputs and not for others, and nobody can
find what the inputs that he has do not show.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import onnx

from .bases import feeds
from .corpus import Expected, Mutant, Workshop
from .edit import constant, node
from .faulty_runner import FAULTS
from .observe import outputs, relative

__all__ = ["runtimes"]

PER_FAULT = 5

_INPUTS = 12
"""Batches of two, on each of which a fault must show: one that half of all samples show fails that in 29 of 30 cases,
and one that four in five show, which any four samples tell, passes in most.
"""

_FAR = 1e-4
"""Of the largest output; onnxruntime's own optimisations move these models by 1e-6 at most."""

_RUNNER = Path(__file__).with_name("faulty_runner.py")
_ALSO = {"jitter": ("nondeterminism",), "first-sample": ("nondeterminism",)}
_SKIPPED = set("Identity Reshape Transpose Concat Split Slice Unsqueeze Squeeze Flatten Expand".split())


def runtimes(shops: Sequence[Workshop], per_fault: int = PER_FAULT) -> Iterator[Mutant]:
    """Each fault at nodes of several artifacts, always or when optimised only; and reduced precision throughout."""
    usable = [s for s in shops if s.base.framework != "file"]
    for fault in FAULTS:
        order = np.random.default_rng(zlib.crc32(fault.encode())).permutation(len(usable))
        made = 0
        for shop in (usable[k] for k in order):
            values = _values(shop)
            for value in (values[k] for k in shop.rng("runtime", fault).permutation(len(values))[:3]):
                far = _moves(shop, value, fault) if made < per_fault else 0.0
                if far > _FAR:
                    when = "optimized" if made % 3 == 2 and fault != "not-a-number" else "always"
                    yield _mutant(shop, value, fault, when, made, far)
                    made += 1
                    break
    for fault in ("float16", "bfloat16"):
        for number, shop in enumerate(usable[2 :: len(usable) // per_fault][:per_fault]):
            yield _mutant(shop, "*", fault, "always", number)


def _values(shop: Workshop) -> list[str]:
    """Results of nodes that compute something."""
    model = shop.subject.model
    return [
        n.output[0] for n in model.graph.node
        if n.output and n.op_type not in _SKIPPED and shop.subject.is_float(n.output[0])
        and (shop.subject.shape(n.output[0]) or (0,))[0] == 2 and constant(model, n.output[0]) is None
    ]  # fmt: skip


def _moves(shop: Workshop, value: str, fault: str) -> float:
    """How far an output moves at least: the model is run with the value damaged, on several batches of two."""
    from .faulty_runner import Faulty

    model = shop.subject.model
    given = [feeds(model, 2, seed, words=shop.base.words or 61)[1] for seed in range(_INPUTS)]
    try:
        options = SimpleNamespace(optimize=False, threads=1, settings={"fault": fault, "value": value})
        session = Faulty().open(shop.built.artifact, options)
        pairs = zip(outputs(model, given), [session.run(feed) for feed in given], strict=True)
    except Exception:  # onnxruntime cannot be cut there
        return 0.0
    return min(max(relative(right[k], wrong[k]) for k in right) for right, wrong in pairs)


def _mutant(shop: Workshop, value: str, fault: str, when: str, number: int, far: float = float("nan")) -> Mutant:
    model = shop.subject.model
    products = [n for n in model.graph.node if n.op_type in ("Conv", "MatMul", "Gemm", "ConvTranspose")]
    blamed: list[onnx.NodeProto] = [node(model, value)] if value != "*" else products
    nodes = tuple(sorted(n.name for n in blamed if n.name))
    values = tuple(sorted(n.output[0] for n in blamed))
    text = f"the runtime computes {value} wrongly ({fault}, {when})"
    one = Expected(f"runtime-{fault}", "runtime", _ALSO.get(fault, ()), nodes, (), values, text)
    query = urlencode({"fault": fault, "value": value, "when": when})
    return Mutant(
        f"runtime/runtime-{fault}/{shop.base.id}/{number}", "runtime", shop.base.id, str(shop.built.source),
        str(shop.built.artifact), (one,), far, False, {"runner": f"{_RUNNER}:Faulty?{query}"},
    )  # fmt: skip
