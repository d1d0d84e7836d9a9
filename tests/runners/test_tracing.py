"""Inner values of an execution: a runtime's own, asked for without changing what it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from onnxeq import traces
from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.layers.probes import Prober
from onnxeq.referee import Executor
from onnxeq.runners import runtime, tracing
from onnxeq.traces import Trace
from onnxeq.worker import Job

ort = pytest.importorskip("onnxruntime")

INNER = ("a", "b", "c", "d", "e", "m", "y")

TOUCHY = '''
import numpy as np, onnx
from onnxeq.runners import ort

class Touchy:
    """onnxruntime; where one of some values is asked for, its outputs are another float32 number."""

    touched = {touched}

    def open(self, model, options):
        asked = {{o.name for o in onnx.load(model, load_external_data=False).graph.output}}
        return Session(ort.open(model, options), bool(asked & self.touched) or "*" in self.touched)

    def versions(self):
        return {{"touchy": "1"}}

class Session:
    count = 0

    def __init__(self, session, nudge):
        self.session, self.nudge = session, nudge

    def run(self, feed):
        Session.count += 1
        by = np.float32(2.0**-20 * (Session.count if {every} else 1))
        values = dict(self.session.run(feed))
        return {{k: v + by if self.nudge and k == "y" else v for k, v in values.items()}}
'''


def model() -> onnx.ModelProto:
    """Five layers of 1,024 numbers, an integer result, a sequence."""
    text = """<ir_version: 10, opset_import: ["" : 20]> main (float[N,1024] x) => (float[N,8] y, int64[N,1] i) {
      a = Relu(x)
      b = Tanh(a)
      c = Sigmoid(b)
      d = Mul(c, x)
      s = SequenceConstruct(c, d)
      e = SequenceAt(s, one)
      m = MatMul(e, w)
      y = Softmax(m)
      i = ArgMax <axis = 1> (m)
    }"""
    made = parser.parse_model(text)
    w = np.random.default_rng(0).standard_normal((1024, 8)).astype(np.float32) / 32
    made.graph.initializer.append(numpy_helper.from_array(w, "w"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(1), "one"))
    return made


def feeds(count: int = 1) -> list[dict[str, NDArray[Any]]]:
    """Normal deviates, the second feed larger than the first."""
    rng = np.random.default_rng(1)
    return [{"image": rng.standard_normal((2 + i, 1024)).astype(np.float32)} for i in range(count)]


def traced(folder: Path, count: int = 1, **params: Any) -> tuple[Mapping[str, Any], list[Trace]]:
    """What the job says, and the traces that it has left."""
    folder.mkdir(exist_ok=True)
    onnx.save(model(), folder / "m.onnx")
    save_feeds(folder / "feeds", feeds(count))
    (folder / "out").mkdir()
    asked = {"names": {"image": "x"}, "optimize": False, "memory": 1 << 30, **params}
    inputs = {"model": folder / "m.onnx", "feeds": folder / "feeds"}
    said = tracing.run(Job(asked, inputs, folder / "out", lambda _: None))
    return said, [traces.load(folder / "out" / f"trace-{i}") for i in range(count)]


def touchy(folder: Path, *touched: str, every: bool = False) -> dict[str, Any]:
    """A runner that some values disturb."""
    path = folder / f"touchy_{'_'.join(touched).replace('*', 'all')}_{every}.py"
    path.write_text(TOUCHY.format(touched=set(touched), every=every))
    return {"target": f"{path}:Touchy"}


def onnxruntimes(names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The values by onnxruntime itself, all asked for at once."""
    copy = model()
    own = {o.name for o in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in own)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), {"x": feeds()[0]["image"]}), strict=True))


def bits(trace: Trace) -> dict[str, bytes]:
    """The values bit by bit."""
    return {name: trace.array(name).tobytes() for name in trace}


def test_the_values_are_the_runtimes_own(tmp_path: Path) -> None:
    """Bit by bit, with their types and shapes, in the order of the graph; a sequence is left out."""
    said, (trace,) = traced(tmp_path)
    expected = onnxruntimes((*INNER, "i"))
    assert list(trace) == [*INNER, "i"]
    assert bits(trace) == {name: value.tobytes() for name, value in expected.items()}
    assert {n: (r.dtype, r.shape) for n, r in trace.rows.items()} == {
        n: (v.dtype.name, v.shape) for n, v in expected.items()
    }
    assert (said["changed"], said["hidden"], said["literal"]) == ([], [], True)
    assert (said["values"], said["total"]) == (9, 9)
    assert set(said["versions"]) == {"onnxruntime"}


@pytest.mark.parametrize("optimize", [False, True])
def test_parts_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimize: bool) -> None:
    """Values of 8 KiB at 1, 10,000 and 20,000 bytes at a time: as many runs as that takes, and the same trace."""
    whole = bits(traced(tmp_path / "all", optimize=optimize)[1][0])
    runs: Counter[int] = Counter()
    write = Prober.write

    def counted(*arguments: Any, **more: Any) -> Path:
        runs[memory] += 1
        return write(*arguments, **more)

    monkeypatch.setattr(Prober, "write", counted)
    for memory in (1, 10_000, 20_000):
        folder = tmp_path / str(memory)
        said, (trace,) = traced(folder, optimize=optimize, memory=memory)
        assert bits(trace) == whole
        assert said["changed"] == []
    assert runs[1] == len(whole) + 1  # the sequence is asked for in vain
    assert runs[1] > runs[10_000] > runs[20_000] > 1


def test_the_optimised_graph_gives_what_it_still_has(tmp_path: Path) -> None:
    """The outputs are those of the run as deployed bit by bit, and the inner values are the model's."""
    said, (trace,) = traced(tmp_path, optimize=True)
    (deployed,) = load_feeds(tmp_path / "out" / "outputs")
    assert {"y", "i"} <= set(trace) <= {*INNER, "i"}
    assert not said["literal"]
    for name in ("y", "i"):
        assert trace.array(name).tobytes() == deployed[name].tobytes()
    exact = Executor(model()).run({"x": feeds()[0]["image"]}, outputs=list(trace))
    for name in trace:
        assert trace.array(name) == pytest.approx(exact[name], abs=1e-5)


def test_every_feed_has_a_trace(tmp_path: Path) -> None:
    """Batches of two and three: each under its number."""
    _, (first, second) = traced(tmp_path, 2)
    assert (first.array("y").shape, second.array("y").shape) == ((2, 8), (3, 8))


def test_a_value_that_disturbs_is_left_out_and_named(tmp_path: Path) -> None:
    """Asking for ``c`` changes ``y`` by 2^-20: all others are taken, with the right bits, in one run or in several."""
    expected = {n: v.tobytes() for n, v in onnxruntimes((*INNER, "i")).items() if n != "c"}
    runner = touchy(tmp_path, "c")
    for memory in (1 << 30, 10_000):
        said, (trace,) = traced(tmp_path / str(memory), runner=runner, memory=memory)
        assert (said["hidden"], said["changed"]) == (["c"], [])
        assert bits(trace) == expected
        assert said["values"] == 8


def test_two_that_disturb_are_both_named(tmp_path: Path) -> None:
    """In the order of the graph, also where a second feed follows."""
    said, written = traced(tmp_path / "t", 2, runner=touchy(tmp_path, "b", "m"))
    assert (said["hidden"], said["changed"]) == (["b", "m"], [])
    assert all({"b", "m"}.isdisjoint(trace) for trace in written)


def test_outputs_that_change_anyhow_are_said_and_no_value_is_blamed(tmp_path: Path) -> None:
    """A runtime whose outputs differ from run to run: all values are taken, and the output is named."""
    said, (trace,) = traced(tmp_path / "t", runner=touchy(tmp_path, "*", every=True))
    assert (said["changed"], said["hidden"]) == (["y"], [])
    assert set(trace) == {*INNER, "i"}


def test_a_runtime_that_cannot_give_its_graph_away_is_asked_as_it_is(tmp_path: Path) -> None:
    """Without ``save_optimized``, the model itself is run, with optimisations on."""
    said, (trace,) = traced(tmp_path / "t", runner=touchy(tmp_path, "nothing"), optimize=True)
    assert not said["literal"]
    assert set(trace) == {*INNER, "i"}


def test_a_runtime_that_refuses_says_so(tmp_path: Path) -> None:
    """An operator that it lacks: its error in one line, and nothing is written."""
    broken = model()
    broken.graph.node[0].domain = "nobody"
    broken.opset_import.add(domain="nobody", version=1)
    onnx.save(broken, tmp_path / "m.onnx")
    save_feeds(tmp_path / "feeds", feeds())
    (tmp_path / "out").mkdir()
    inputs = {"model": tmp_path / "m.onnx", "feeds": tmp_path / "feeds"}
    params = {"names": {"image": "x"}, "memory": 1 << 20}
    said = tracing.run(Job(params, inputs, tmp_path / "out", lambda _: None))
    assert said["failed"].startswith("onnxruntime refuses m.onnx")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_referees_values_are_in_float64(tmp_path: Path) -> None:
    """Every tensor of the main graph as the executor computes it, under the model's names."""
    onnx.save(model(), tmp_path / "m.onnx")
    save_feeds(tmp_path / "feeds", feeds())
    (tmp_path / "out").mkdir()
    inputs = {"model": tmp_path / "m.onnx", "feeds": tmp_path / "feeds"}
    said = tracing.referee(Job({"names": {"image": "x"}}, inputs, tmp_path / "out", lambda _: None))
    trace = traces.load(tmp_path / "out" / "trace-0")
    exact = Executor(model()).run({"x": feeds()[0]["image"]}, outputs=list(trace))
    assert set(trace) == {*INNER, "i"}
    assert all(np.array_equal(trace.array(n), exact[n]) for n in trace)
    assert trace.rows["y"].dtype == "float64"
    assert (said["changed"], said["total"]) == ([], 9)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Runners are imported anew."""
    runtime.load_runner.cache_clear()
