"""Traces on disk: every value comes back bit by bit, and what is not a trace is said in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from onnxeq import traces
from onnxeq.errors import UnusableModel
from onnxeq.traces import SCHEMA, TraceWriter

VALUES: dict[str, NDArray[Any]] = {
    "layer1/conv:0": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "scalar": np.array(1.5),
    "empty": np.zeros((2, 0, 3), np.float32),
    "": np.arange(3),
    "half": np.array([1, 2, 65504], np.float16),
    "brain": np.array([1, 3.140625, np.inf]).astype(ml_dtypes.bfloat16),
    "tiny": np.array([1, 2, 448]).astype(ml_dtypes.float8_e4m3fn),
    "mask": np.array([[True, False]]),
    "bytes": np.arange(256, dtype=np.uint8),
    "no number": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32),
    "../../outside": np.zeros(1),
    "turned": np.arange(6.0).reshape(2, 3).T,
}


def written(folder: Path, values: dict[str, NDArray[Any]] = VALUES, **record: Any) -> traces.Trace:
    """A trace of these values, read again."""
    with TraceWriter(folder, record) as writer:
        for name, value in values.items():
            writer.add(name, value)
    return traces.load(folder)


def test_every_value_comes_back(tmp_path: Path) -> None:
    """Bits, type, shape and order, whatever the name and the type, and what was noted besides."""
    trace = written(tmp_path / "t", execution="ort/cpu", versions={"onnxruntime": "1"})
    assert list(trace) == list(VALUES)
    assert len(trace) == len(VALUES)
    for name, value in VALUES.items():
        found = trace.array(name)
        assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes()), name
    assert trace.record == {"execution": "ort/cpu", "versions": {"onnxruntime": "1"}}
    assert "brain" in trace
    assert "other" not in trace
    assert {p.parent for p in tmp_path.rglob("*.npy")} == {tmp_path / "t"}  # names are no paths


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(
        st.text(max_size=8),
        hnp.arrays(st.sampled_from([np.float32, np.int64, np.bool_]), hnp.array_shapes(min_dims=0, min_side=0)),
        max_size=4,
    )
)
def test_any_arrays_come_back(tmp_path_factory: pytest.TempPathFactory, values: dict[str, NDArray[Any]]) -> None:
    """Whatever is written is read."""
    trace = written(tmp_path_factory.mktemp("any"), values)
    assert {n: (trace.array(n).tobytes(), trace.array(n).shape) for n in trace} == {
        n: (v.tobytes(), v.shape) for n, v in values.items()
    }


def test_text_and_a_name_that_was_there_are_left_out(tmp_path: Path) -> None:
    """The first value of a name is kept; text is nothing to compute with."""
    with TraceWriter(tmp_path) as writer:
        writer.add("a", np.zeros(2))
        writer.add("a", np.ones(2))
        writer.add("words", np.array(["x", "y"], object))
    trace = traces.load(tmp_path)
    assert list(trace) == ["a"]
    assert not trace.array("a").any()


def test_without_its_end_there_is_no_trace(tmp_path: Path) -> None:
    """A run that fails half-way leaves nothing that could be taken for a whole."""
    with pytest.raises(RuntimeError), TraceWriter(tmp_path) as writer:  # noqa: PT012
        writer.add("a", np.zeros(2))
        raise RuntimeError
    with pytest.raises(UnusableModel, match=r"holds no trace\.json") as caught:
        traces.load(tmp_path)
    assert "--save-trace" in caught.value.hint


def _index(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / "trace.json").read_text())
        changed = edit(document)
        (folder / "trace.json").write_text(json.dumps(document if changed is None else changed))

    return change


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no JSON": (lambda folder: (folder / "trace.json").write_text("{"), "is damaged"),
    "no text": (lambda folder: (folder / "trace.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "a list": (_index(lambda d: [d]), "is damaged"),
    "a number": (_index(lambda d: 3), "is damaged"),
    "no schema": (_index(lambda d: d.pop("schema") and None), "is damaged"),
    "no values": (_index(lambda d: d.pop("values") and None), "is damaged"),
    "values of another kind": (_index(lambda d: d.update(values={"a": 1})), "is damaged"),
    "a row without a file": (_index(lambda d: d["values"][0].pop("file") and None), "is damaged"),
    "a newer form": (_index(lambda d: d.update(schema="onnxeq.trace/2")), "of the form onnxeq.trace/2"),
    "a file elsewhere": (_index(lambda d: d["values"][0].update(file="../secret.npy")), "outside of its folder"),
    "an absolute file": (_index(lambda d: d["values"][0].update(file="/etc/passwd")), "outside of its folder"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_index_is_said(tmp_path: Path, name: str) -> None:
    """Whatever is wrong with it: one line of the one kind of error."""
    written(tmp_path)
    damage, said = DAMAGE[name]
    damage(tmp_path)
    with pytest.raises(UnusableModel, match=said) as caught:
        traces.load(tmp_path)
    assert "\n" not in caught.value.line()


def test_a_newer_form_says_what_this_version_reads(tmp_path: Path) -> None:
    """Both forms are named, and what to do."""
    written(tmp_path)
    DAMAGE["a newer form"][0](tmp_path)
    with pytest.raises(UnusableModel, match=SCHEMA) as caught:
        traces.load(tmp_path)
    assert "update" in caught.value.hint


def test_a_damaged_value_is_said_when_it_is_read(tmp_path: Path) -> None:
    """A file that is missing, cut short, another shape, or holds objects: its name is in the message."""
    trace = written(tmp_path)
    file = tmp_path / trace.rows["scalar"].file
    whole = file.read_bytes()
    for broken in (whole[:-4], whole[:20], b"", b"PK\x03\x04"):
        file.write_bytes(broken)
        with pytest.raises(UnusableModel, match=f"damaged: {file.name}"):
            trace.array("scalar")
    np.save(file, np.array([{}], object), allow_pickle=True)
    with pytest.raises(UnusableModel, match=f"damaged: {file.name}"):
        trace.array("scalar")
    np.save(file, np.zeros(3))
    with pytest.raises(UnusableModel, match=r"holds \[3\], its index says \[\]"):
        trace.array("scalar")
    file.unlink()
    with pytest.raises(UnusableModel, match=f"damaged: {file.name}"):
        trace.array("scalar")
    assert trace.array("mask").tobytes() == VALUES["mask"].tobytes()  # the others are as they were


def test_a_value_of_another_type_is_damage(tmp_path: Path) -> None:
    """Float64 where the index says bool, or a type that there is not."""
    trace = written(tmp_path, {"mask": np.array([True, False, True])})
    np.save(tmp_path / trace.rows["mask"].file, np.zeros(3))
    with pytest.raises(UnusableModel, match="damaged"):
        trace.array("mask")
    np.save(tmp_path / trace.rows["mask"].file, np.zeros(3, np.int8))  # as large as bool
    with pytest.raises(UnusableModel, match="int8 and not bool"):
        trace.array("mask")
    _index(lambda d: d["values"][0].update(dtype="float99"))(tmp_path)
    with pytest.raises(UnusableModel, match="damaged"):
        traces.load(tmp_path).array("mask")
