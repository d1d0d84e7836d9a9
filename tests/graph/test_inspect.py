"""Hostile, broken and honest files."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest

from onnxeq.errors import UnusableModel
from onnxeq.graph.inspect import inspect, load
from onnxeq.types import TensorSpec


@pytest.fixture
def model(build):
    return build(
        """g (float[N,30] x, bool k, float16[1] h) => (float[N,40] y) {
            m = MatMul(x, w)
            y = If (k) <then_branch = t () => (float[N,40] p) { p = Relu(m) },
                        else_branch = e () => (float[N,40] q) { q = Relu(m) }> }""",
        w=np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32),
    )


@pytest.fixture
def external(model, tmp_path):
    """The same model with its weight in w.bin, and a function that changes its entries."""
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)

    def change(**entries):
        proto = onnx.load(path, load_external_data=False)
        for entry in proto.graph.initializer[0].external_data:
            entry.value = entries.pop(entry.key, entry.value)
        for key, value in entries.items():
            proto.graph.initializer[0].external_data.add(key=key, value=value)
        path.write_bytes(proto.SerializeToString())
        return path

    return change


def test_describes(model, tmp_path):
    """Inputs with names of dynamic sizes, opsets, operators in sub-graphs too, parameters, hash."""
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    info = inspect(path)
    assert info.inputs[0] == TensorSpec("x", "float32", ("N", 30))
    assert [spec.dtype for spec in info.inputs] == ["float32", "bool", "float16"]
    assert info.outputs == (TensorSpec("y", "float32", ("N", 40)),)
    assert (dict(info.opsets), info.ir_version) == ({"ai.onnx": 17}, 9)
    assert info.operators == {"Relu": 2, "MatMul": 1, "If": 1}
    assert (info.nodes, info.parameters, info.parameter_bytes) == (4, 1200, 4800)
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert inspect(model).operators == info.operators


def test_external_data(external, tmp_path):
    """External data is named, counted and part of the hash: digest(digest(model) + digest(w.bin))."""
    info = inspect(external())
    parts = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("m.onnx", "w.bin")]
    assert info.external == ("w.bin",)
    assert info.parameter_bytes == 4800
    assert info.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()
    assert len(load(tmp_path / "m.onnx").graph.initializer[0].raw_data) == 4800


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"this is a text file\n" * 9, "is text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(99), "ZIP archive"),
        (bytes(range(256)) * 4, "no ONNX model"),
    ],
)
def test_not_a_model(tmp_path, data, said):
    """Each kind of wrong file is named, in one line."""
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(UnusableModel, match=said) as caught:
        inspect(path)
    assert "\n" not in caught.value.line()


def test_no_file(tmp_path):
    """A missing file and a directory."""
    with pytest.raises(UnusableModel, match="no such file"):
        inspect(tmp_path / "m.onnx")
    with pytest.raises(UnusableModel, match="is a directory"):
        inspect(tmp_path)


def test_other_protobuf(tmp_path):
    """A stored tensor (.pb) parses as bytes and is no model."""
    path = tmp_path / "output_0.pb"
    path.write_bytes(onnx.numpy_helper.from_array(np.ones(300, np.float32)).SerializeToString())
    with pytest.raises(UnusableModel):
        inspect(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated(model, tmp_path, part):
    """Cut anywhere, the file is refused."""
    data = model.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UnusableModel):
        load(path)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"location": "gone.bin"}, "there is no file 'gone.bin'"),
        ({"location": "/etc/hostname"}, "outside the model's folder"),
        ({"location": "../w.bin"}, "outside the model's folder"),
        ({"location": "a/../../w.bin"}, "outside the model's folder"),
        ({"location": "link.bin"}, "is a link that leads outside"),
        ({"location": "folder/w.bin"}, "is a link that leads outside"),
        ({"location": ""}, "names no file"),
        ({"location": "."}, "is no regular file"),
        ({"length": "4801"}, "bytes 0 to 4801 of 'w.bin', which has 4800"),
        ({"offset": "-8"}, "bytes -8"),
        ({"length": "many"}, "is no number"),
    ],
)
def test_hostile_external_data(external, tmp_path, tmp_path_factory, entries, said):
    """External data that is missing, cut off, or outside the folder is refused by inspect and load."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "w.bin").write_bytes(bytes(4800))
    (tmp_path / "link.bin").symlink_to(elsewhere / "w.bin")
    (tmp_path / "folder").symlink_to(elsewhere)
    path = external(**entries)
    for reader in (inspect, load):
        with pytest.raises(UnusableModel, match=said):
            reader(path)


def test_external_data_of_an_attribute(model, tmp_path):
    """A Constant inside a branch may refer to a file as well: it is checked like the rest."""
    branch = model.graph.node[1].attribute[0].g
    constant = onnx.helper.make_node("Constant", [], ["c"])
    tensor = onnx.TensorProto(name="c", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/hostname")
    constant.attribute.append(onnx.helper.make_attribute("value", tensor))
    branch.node.insert(0, constant)
    path = tmp_path / "branch.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnusableModel, match="outside the model's folder"):
        inspect(path)


def test_in_memory_without_a_folder(external):
    """A model in memory whose data lies elsewhere needs base_dir."""
    from onnxeq.graph.normalize import normalize

    path = external()
    proto = onnx.load(path, load_external_data=False)
    with pytest.raises(UnusableModel, match="no folder"):
        normalize(proto)
    assert normalize(proto, base_dir=path.parent).model.graph.initializer[0].raw_data
