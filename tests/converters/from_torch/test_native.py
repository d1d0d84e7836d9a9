"""Loading, wrapping, exporting: the converter's protocol."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxeq.errors import BadInputs, UnknownModel, UnusableModel, UsageError, WeightsUnavailable
from onnxeq.protocols import LoadRequest
from onnxeq.types import ExportForm, ModelRef, Precision, TensorSpec

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip

from onnxeq_converters import from_torch  # noqa: E402  # after the skip

_BOTH = (ExportForm.UNFOLDED, ExportForm.DEPLOYED)


def _quiet(step):
    del step


def _request(weights="", shape=("N", 3, 8, 8), name="x", **options):
    return LoadRequest(ModelRef("m", "live", "m", weights), (TensorSpec(name, "float32", shape),), **options)


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def _ort(export, feed):
    session = ort.InferenceSession(str(export.path), providers=["CPUExecutionProvider"])
    values = dict(zip(export.input_names, feed.values(), strict=True))
    return session.run(list(export.output_names), values)


def test_unfolded_keeps_norms_and_native_names(tmp_path):
    """The unfolded file holds BatchNormalization and every parameter bit for bit; the deployed one is folded."""
    native = from_torch.wrap(_Net(), _request("seeded"), _quiet)
    unfolded, deployed = native.export(tmp_path, _BOTH, None)
    graph = onnx.load(unfolded.path).graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    assert "BatchNormalization" in {node.op_type for node in graph.node}
    for name, value in native.weights().items():
        if name != "norm.num_batches_tracked":
            assert np.array_equal(stored[name], value), name
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(deployed.path).graph.node}


def test_the_deployed_form_may_be_asked_for_later(tmp_path):
    """One capture serves both forms also when they are asked for one after the other, with the same files."""
    steps = []
    native = from_torch.wrap(_Net(), _request("seeded"), steps.append)
    (unfolded,) = native.export(tmp_path / "first", (ExportForm.UNFOLDED,), None)
    (deployed,) = native.export(tmp_path / "second", (ExportForm.DEPLOYED,), None)
    assert sum(step.startswith("export: capture") for step in steps) == 1
    together = native.export(tmp_path / "both", _BOTH, None)
    assert sum(step.startswith("export: capture") for step in steps) == 2  # the first one was optimised
    for apart, same in zip((unfolded, deployed), together, strict=True):
        first, second = onnx.load(apart.path).graph, onnx.load(same.path).graph
        assert list(first.initializer) == list(second.initializer)
        assert [n.op_type for n in first.node] == [n.op_type for n in second.node]


def test_deployed_is_what_the_exporter_writes_by_default(tmp_path):
    """Optimising the captured program gives the operators of torch.onnx.export(optimize=True)."""
    model = _Net().eval()
    native = from_torch.wrap(model, _request(), _quiet)
    (ours,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    batch = torch.export.Dim("batch")
    theirs = torch.onnx.export(
        model, (torch.randn(2, 3, 8, 8),), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    ).model_proto
    mine = onnx.load(ours.path)
    assert [n.op_type for n in mine.graph.node] == [n.op_type for n in theirs.graph.node]
    assert [t.raw_data for t in mine.graph.initializer] == [t.raw_data for t in theirs.graph.initializer]


def test_dynamic_batch_runs_at_another_size(tmp_path):
    """One file runs batches of 1 and 5 and agrees with torch to a few ulp."""
    native = from_torch.wrap(_Net(), _request("seeded"), _quiet)
    for export in native.export(tmp_path, _BOTH, None):
        assert export.dynamic_batch
        assert export.notes == ()
        for size in (1, 5):
            feed = {"x": np.random.default_rng(size).normal(size=(size, 3, 8, 8)).astype(np.float32)}
            (got,) = _ort(export, feed)
            assert np.abs(got - native.run(feed, Precision.F32)["output"]).max() < 1e-5


def test_a_batch_that_cannot_vary_is_said(tmp_path):
    """A model that reads its batch size as a number is exported for one batch, with a note."""

    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(1, -1) * 2 if int(x.shape[0]) == 1 else x.reshape(2, -1)

    (export,) = from_torch.wrap(Fixed(), _request(shape=(1, 3)), _quiet).export(tmp_path, _BOTH[:1], None)
    assert not export.dynamic_batch
    assert export.notes[0].startswith("batch baked in at export: ")
    assert "\n" not in export.notes[0]


def test_float64_is_the_same_program(tmp_path):
    """F64 gives float64 within float32 rounding of F32; integer and F32 results keep their types."""
    native = from_torch.wrap(_Net(), _request("seeded"), _quiet)
    feed = {"x": np.ones((1, 3, 8, 8), np.float32)}
    low, high = native.run(feed, Precision.F32)["output"], native.run(feed, Precision.F64)["output"]
    assert low.dtype == np.float32
    assert high.dtype == np.float64
    assert 0 < np.abs(low - high).max() < 1e-5
    assert np.array_equal(native.run(feed, Precision.F32)["output"], low)


def test_live_module_is_untouched(tmp_path):
    """Training flag, weights, hooks and dtype of the caller's module are as before everything."""
    model = _Net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    native = from_torch.wrap(model, _request("seeded"), _quiet)
    state = torch.random.get_rng_state()
    native.run({"x": np.ones((1, 3, 8, 8), np.float32)}, Precision.F64)
    native.export(tmp_path, _BOTH, None)
    assert model.training
    assert model.norm.training
    assert all(torch.equal(before[k], v) and before[k].dtype == v.dtype for k, v in model.state_dict().items())
    assert not model.conv._forward_hooks
    assert torch.equal(state, torch.random.get_rng_state())


@dataclass
class _Result:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None
    pair: tuple[torch.Tensor, ...] = ()


class _Structured(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        y = self.head(x)
        if self.kind == "dict":
            return {"b": y, "a": y * 2, "none": None}
        return _Result(y, None, (y + 1, y + 2))


@pytest.mark.parametrize(("kind", "names"), [("dict", ["b", "a"]), ("dataclass", ["logits", "pair.0", "pair.1"])])
def test_structured_outputs_keep_names_and_order(kind, names, tmp_path):
    """ONNX outputs pair with native ones in order, None is dropped, and values agree by name."""
    native = from_torch.wrap(_Structured(kind), _request(shape=("N", 3)), _quiet)
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    feed = {"x": np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)}
    want = native.run(feed, Precision.F32)
    assert list(want) == names
    for value, got in zip(want.values(), _ort(export, feed), strict=True):
        assert np.allclose(value, got, atol=1e-6)
    assert [spec.name for spec in native.signature.outputs] == names


def test_inputs_are_matched_by_name_then_by_place(tmp_path):
    """Declared names that forward has win; the others fill what is left, in order."""

    class Two(nn.Module):
        def forward(self, left, right, scale=None):
            return left - right

    specs = (TensorSpec("right", "float32", ("N", 2)), TensorSpec("input_1", "float32", ("N", 2)))
    native = from_torch.wrap(Two(), LoadRequest(ModelRef("m", "live", "m"), specs), _quiet)
    assert [spec.name for spec in native.signature.inputs] == ["left", "right"]
    feed = {"left": np.full((1, 2), 3, np.float32), "right": np.ones((1, 2), np.float32)}
    assert native.run(feed, Precision.F32)["output"].tolist() == [[2.0, 2.0]]
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    assert _ort(export, feed)[0].tolist() == [[2.0, 2.0]]


def test_missing_shape_says_what_to_type():
    """Without inputs the error's hint is the option to type."""
    with pytest.raises(UsageError) as caught:
        from_torch.wrap(_Net(), LoadRequest(ModelRef("m", "live", "m")), _quiet)
    assert "--shape NAME=1x3x224x224" in caught.value.hint


def test_wrong_feed_is_refused():
    """An unknown name and another element type are errors, never cast away."""
    native = from_torch.wrap(_Net(), _request(), _quiet)
    with pytest.raises(BadInputs, match="takes x"):
        native.run({"y": np.ones((1, 3, 8, 8), np.float32)}, Precision.F32)
    with pytest.raises(BadInputs, match="float64"):
        native.run({"x": np.ones((1, 3, 8, 8))}, Precision.F32)


def test_unknown_zoo_model_lists_neighbours():
    """A misspelt name is answered with the nearest ones."""
    with pytest.raises(UnknownModel) as caught:
        from_torch.load(LoadRequest(ModelRef("t", "torchvision", "resnet5O")), _quiet)
    assert "resnet50" in caught.value.hint


def test_failed_download_never_falls_back(monkeypatch):
    """Pretrained weights that cannot be fetched are an error that names @seeded."""

    def offline(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(WeightsUnavailable, match="no route") as caught:
        from_torch.load(LoadRequest(ModelRef("t", "torchvision", "squeezenet1_1")), _quiet)
    assert "@seeded" in caught.value.hint


def test_checkpoint_is_unwrapped_and_checked(tmp_path):
    """``{'state_dict': {'module.x': ...}}`` loads; a missing and an unexpected name are both named."""
    source = _Net()
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    torch.save({"state_dict": state, "epoch": 3}, good)
    native = from_torch.wrap(_Net(), _request(str(good)), _quiet)
    assert np.array_equal(native.weights()["head.weight"], source.head.weight.detach().numpy())
    state["module.extra"] = state.pop("module.head.bias")
    torch.save(state, bad)
    with pytest.raises(UsageError, match=r"missing head\.bias; unexpected extra"):
        from_torch.wrap(_Net(), _request(str(bad)), _quiet)


def test_code_in_a_checkpoint_needs_trust(tmp_path):
    """A pickled module is refused with --trust as the hint, and read when trusted."""
    path = tmp_path / "pickled.pt"
    torch.save(nn.Linear(2, 2), path)
    request = _request(str(path), shape=("N", 2), name="input")
    with pytest.raises(UnusableModel) as caught:
        from_torch.wrap(nn.Linear(2, 2), request, _quiet)
    assert "--trust" in caught.value.hint
    trusted = _request(str(path), shape=("N", 2), name="input", trust=True)
    assert from_torch.wrap(nn.Linear(2, 2), trusted, _quiet).weights()["weight"].shape == (2, 2)


def test_exported_program_file(tmp_path):
    """A .pt2 file loads with its own inputs, runs in both precisions and exports."""
    model = _Net().eval()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 8, 8),)), path)
    native = from_torch.load(LoadRequest(ModelRef(str(path), "file", str(path))), _quiet)
    feed = {"x": np.ones((2, 3, 8, 8), np.float32)}
    low, high = native.run(feed, Precision.F32), native.run(feed, Precision.F64)
    assert np.abs(low["output"] - high["output"]).max() < 1e-5
    (export,) = native.export(tmp_path / "out", (ExportForm.UNFOLDED,), None)
    assert np.abs(_ort(export, feed)[0] - low["output"]).max() < 1e-5


def test_catalogue_and_ownership():
    """Every zoo model has a family and inputs; modules are told from other objects."""
    entries = {entry.name: entry for entry in from_torch.catalogue("torchvision")}
    assert entries["inception_v3"].inputs[0].shape == ("N", 3, 299, 299)
    assert entries["mvit_v2_s"].inputs[0].shape == ("N", 3, 16, 224, 224)
    assert [spec.name for spec in entries["raft_small"].inputs] == ["image1", "image2"]
    assert entries["fcn_resnet50"].family == "segmentation.fcn"
    assert from_torch.owns(_Net())
    assert not from_torch.owns(np.zeros(1))


def test_provenance_names_versions_and_weights():
    """The weights' fingerprint depends on the seed and on nothing else."""
    prints = []
    for seed in (0, 0, 1):
        ref = ModelRef("m", "live", "m", "seeded", seed)
        request = LoadRequest(ref, (TensorSpec("x", "float32", ("N", 3, 8, 8)),))
        prints.append(from_torch.wrap(_Net(), request, _quiet).provenance)
    assert prints[0]["torch"] == torch.__version__.split("+")[0]
    assert prints[0]["weights_sha256"] == prints[1]["weights_sha256"] != prints[2]["weights_sha256"]
