"""timm and transformers: names, weights, what they take, and what they say when something cannot be had."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from onnxeq.errors import UnknownModel, UnknownZoo, UnusableModel, UsageError, WeightsUnavailable
from onnxeq.protocols import LoadRequest
from onnxeq.types import ExportForm, ModelRef, Precision, TensorSpec

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from onnxeq_converters import from_torch  # noqa: E402  # after the skip
from onnxeq_converters.from_torch.zoos import ZOOS, packages, zoo_of  # noqa: E402


def _quiet(step: str) -> None:
    del step


def _load(zoo: str, name: str, weights: str = "seeded", **options):
    return from_torch.load(LoadRequest(ModelRef(f"{zoo}:{name}", zoo, name, weights), **options), _quiet)


def _feed(native, sizes: dict[str, int]):
    """Seeded values inside each input's range, with a size for every named axis."""
    rng = np.random.default_rng(0)
    feed = {}
    for spec in native.signature.inputs:
        shape = [d if isinstance(d, int) else sum(sizes[part] for part in d.split("+")) for d in spec.shape]
        if spec.dtype == "int64":
            feed[spec.name] = rng.integers(int(spec.range.low), int(spec.range.high), shape)
        else:
            feed[spec.name] = rng.normal(size=shape).astype(np.float32)
    return feed


def _ort(export, feed):
    session = ort.InferenceSession(str(export.path), providers=["CPUExecutionProvider"])
    return session.run(list(export.output_names), dict(zip(export.input_names, feed.values(), strict=True)))


def test_every_zoo_has_the_same_names() -> None:
    """Each module in the table of zoos defines what the protocol lists; another zoo is refused with those there are."""
    for name in ZOOS:
        for package in packages(name):
            pytest.importorskip(package)
        zoo = zoo_of(name)
        assert all(callable(getattr(zoo, part)) for part in ("build", "inputs", "family", "catalogue", "versions"))
    with pytest.raises(UnknownZoo) as caught:
        packages("tfmg")
    assert "timm" in caught.value.hint


class TestTimm:
    """Names, tags and recipes of timm."""

    @pytest.fixture(autouse=True)
    def _needs(self) -> None:
        pytest.importorskip("timm")

    def test_the_input_is_the_recipes(self) -> None:
        """160 pixels, and from (0 - 0.5) / 0.5 to (1 - 0.5) / 0.5, are what test_vit's configuration says."""
        (spec,) = _load("timm", "test_vit").signature.inputs
        assert (spec.name, spec.dtype, spec.shape) == ("x", "float32", ("N", 3, 160, 160))
        assert (spec.range.low, spec.range.high) == (-1.0, 1.0)

    def test_a_tag_has_its_own_recipe(self) -> None:
        """A model is found under its tag, with the tag's own size: 384 pixels for this one."""
        entries = {e.name: e for e in from_torch.catalogue("timm")}
        assert entries["resnet50"].family == "resnet"
        zoo = zoo_of("timm")
        assert zoo.inputs("swin_base_patch4_window12_384.ms_in22k")[0].shape[2:] == (384, 384)
        assert zoo.family("resnet50.a1_in1k") == "resnet"
        assert len(entries) > 1000

    def test_unknown_names_and_tags(self) -> None:
        """A misspelt model is answered with the nearest, a tag that it lacks with those that it has."""
        with pytest.raises(UnknownModel) as model:
            _load("timm", "resnet5O")
        assert "resnet50" in model.value.hint
        with pytest.raises(UnknownModel) as tag:
            _load("timm", "resnet50.a7")
        assert "resnet50.a1_in1k" in tag.value.hint

    def test_weights_of_a_file(self, tmp_path: Path) -> None:
        """``@FILE`` puts safetensors in, bfloat16 widened to the model's own float32; a missing name is told."""
        safetensors = pytest.importorskip("safetensors.torch")
        import timm

        state = {
            k: v.bfloat16() if v.is_floating_point() else v
            for k, v in timm.create_model("test_vit").state_dict().items()
        }
        path = tmp_path / "weights.safetensors"
        safetensors.save_file(state, path)
        held = _load("timm", "test_vit", str(path)).weights()
        assert held["head.weight"].dtype == np.float32
        assert np.array_equal(held["head.weight"], state["head.weight"].float().numpy())
        state.pop("head.bias")
        safetensors.save_file(state, path)
        with pytest.raises(UsageError, match=r"missing head\.bias"):
            _load("timm", "test_vit", str(path))

    def test_no_network_is_said_at_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Weights that are neither cached nor reachable are one typed line that names @seeded."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        _cut_off(monkeypatch)
        with pytest.raises(WeightsUnavailable, match="no route") as caught:
            _load("timm", "test_vit", "pretrained")
        assert "timm:test_vit@seeded" in caught.value.hint
        assert "\n" not in caught.value.line()


def _cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def head(self, *_args: object, **_options: object) -> None:
            raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.get_session", Session)


_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


class TestTransformers:
    """Folders, model types and parts of transformers."""

    @pytest.fixture(autouse=True)
    def _needs(self) -> None:
        self.t = pytest.importorskip("transformers")

    def _bert(self, folder: Path, **options: object):
        config = self.t.BertConfig(**_SMALL, vocab_size=100, max_position_embeddings=64, **options)
        model = self.t.BertForSequenceClassification(config)
        model.save_pretrained(folder)
        return model

    def test_a_folder_with_its_weights(self, tmp_path: Path) -> None:
        """The class and the weights are the folder's, and the float32 run is the model's own to the bit."""
        model = self._bert(tmp_path).eval()
        native = _load("hf", str(tmp_path), "")
        assert [s.text() for s in native.signature.inputs] == ["int64[N,sequence]"] * 3
        assert native.signature.inputs[0].range.high == 100
        feed = _feed(native, {"N": 2, "sequence": 7})
        with torch.no_grad():
            want = model(**{k: torch.from_numpy(v) for k, v in feed.items()}).logits.numpy()
        assert np.array_equal(native.run(feed, Precision.F32)["logits"], want)
        assert native.provenance["architecture"] == "BertForSequenceClassification"
        assert native.provenance["attention"] == "sdpa"

    def test_batch_and_length_are_dynamic(self, tmp_path: Path) -> None:
        """One file runs other batches and lengths than the example's (2 and 16) and agrees with torch."""
        self._bert(tmp_path / "model")
        native = _load("hf", str(tmp_path / "model"), "")
        (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
        assert export.notes == ()
        for batch, length in ((1, 5), (3, 40)):
            feed = _feed(native, {"N": batch, "sequence": length})
            feed["attention_mask"][:, 0] = 1
            want = native.run(feed, Precision.F32)["logits"]
            assert np.abs(_ort(export, feed)[0] - want).max() < 1e-5

    def test_only_what_the_target_declares(self, tmp_path: Path) -> None:
        """A target without token types leaves them out; one with positions puts them in; --shape alone does neither."""
        self._bert(tmp_path)
        ids, positions = (TensorSpec(n, "int64", ("N", 8)) for n in ("input_ids", "position_ids"))
        said = {
            ("input_ids", "position_ids"): (ids, positions),
            ("input_ids",): (ids,),
            ("input_ids", "attention_mask", "token_type_ids"): (TensorSpec("input_ids", "float32", (1, 8)),),
        }
        for names, declared in said.items():
            native = _load("hf", str(tmp_path), "", inputs=declared)
            assert tuple(s.name for s in native.signature.inputs) == names
            assert all(s.dtype == "int64" for s in native.signature.inputs)

    def test_weights_that_are_missing(self, tmp_path: Path) -> None:
        """The library would draw them at random; here a missing one, and a folder without any, are errors."""
        from safetensors.torch import load_file, save_file

        self._bert(tmp_path)
        path = tmp_path / "model.safetensors"
        state = load_file(path)
        state.pop("classifier.bias")
        save_file(state, path, {"format": "pt"})
        with pytest.raises(UsageError, match=r"missing classifier\.bias"):
            _load("hf", str(tmp_path), "")
        path.unlink()
        with pytest.raises(WeightsUnavailable) as caught:
            _load("hf", str(tmp_path), "")
        assert "@seeded" in caught.value.hint
        assert _load("hf", str(tmp_path), "seeded").weights()["classifier.bias"].any()

    def test_code_of_its_own_needs_trust(self, tmp_path: Path) -> None:
        """A configuration that names code is refused with --trust as the hint."""
        (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}')
        with pytest.raises(UnusableModel) as caught:
            _load("hf", str(tmp_path), "seeded")
        assert "--trust" in caught.value.hint

    def test_a_model_type_is_reduced_and_says_so(self) -> None:
        """12 layers become 2; a width of 4096 becomes 256, and lists that follow the depth follow."""
        entries = {e.name: e for e in from_torch.catalogue("hf")}
        assert (entries["bert"].family, entries["gpt2"].family, entries["t5"].family) == (
            "encoder",
            "decoder",
            "encoder-decoder",
        )
        types = zoo_of("hf").types
        config, told = types.reduced("bert")
        assert (config.num_hidden_layers, told) == (2, "num_hidden_layers 12 to 2")
        config, told = types.reduced("qwen2")
        assert (config.hidden_size, len(config.layer_types)) == (256, 2)
        assert "hidden_size 4096 to 256" in told

    def test_parts_of_an_encoder_decoder(self, tmp_path: Path) -> None:
        """Decoder of encoder is the whole: the parts' logits are the model's own to rounding."""
        config = self.t.T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=100)
        self.t.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
        whole, encoder, decoder = (_load("hf", f"{tmp_path}{part}", "") for part in ("", "#encoder", "#decoder"))
        feed = _feed(whole, {"N": 2, "sequence": 6, "decoder_sequence": 3})
        feed["attention_mask"][:, 0] = 1
        given = {name: feed[name] for name in ("input_ids", "attention_mask")}
        hidden = encoder.run(given, Precision.F32)["last_hidden_state"]
        fed = {
            "decoder_input_ids": feed["decoder_input_ids"],
            "encoder_hidden_states": hidden,
            "encoder_attention_mask": feed["attention_mask"],
        }
        assert [s.name for s in decoder.signature.inputs] == list(fed)
        logits = decoder.run(fed, Precision.F32)["logits"]
        assert np.abs(logits - whole.run(feed, Precision.F32)["logits"]).max() < 1e-6
        with pytest.raises(UsageError, match="no part"):
            _load("hf", f"{tmp_path}#middle", "")

    def test_a_cache_goes_in_and_out(self, tmp_path: Path) -> None:
        """Two steps with the cache give what one run over the whole text gives; both lengths are dynamic."""
        config = self.t.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, n_positions=64)
        self.t.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
        whole, cached = (_load("hf", f"{tmp_path}/model{part}", "") for part in ("", "#with-past"))
        ids = np.random.default_rng(0).integers(0, 100, (2, 9))
        ones = np.ones_like(ids)
        want = whole.run({"input_ids": ids, "attention_mask": ones}, Precision.F32)["logits"]
        names = [s.name for s in cached.signature.inputs[2:]]
        empty = {name: np.zeros((2, 2, 0, 16), np.float32) for name in names}
        first = cached.run({"input_ids": ids[:, :5], "attention_mask": ones[:, :5], **empty}, Precision.F32)
        past = dict(zip(names, list(first.values())[1:], strict=True))
        feed = {"input_ids": ids[:, 5:], "attention_mask": ones, **past}
        second = cached.run(feed, Precision.F32)
        assert np.abs(second["logits"] - want[:, 5:]).max() < 1e-5
        assert second["present.1.value"].shape == (2, 2, 9, 16)
        (export,) = cached.export(tmp_path, (ExportForm.DEPLOYED,), None)
        assert export.notes == ()
        assert np.abs(_ort(export, feed)[0] - second["logits"]).max() < 1e-5

    def test_a_decoder_behind_an_encoder_has_two_caches(self, tmp_path: Path) -> None:
        """The last token with the cache of those before gives what all at once give, in the framework and exported."""
        config = self.t.T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4, vocab_size=100)
        config.num_decoder_layers = 2
        self.t.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
        whole, cached = (_load("hf", f"{tmp_path}/model{part}", "") for part in ("", "#with-past"))
        feed = _feed(whole, {"N": 2, "sequence": 6, "decoder_sequence": 5})
        feed["attention_mask"][:, 0] = 1
        torch = pytest.importorskip("torch")
        model = self.t.T5ForConditionalGeneration.from_pretrained(tmp_path / "model").eval()
        given = {name: torch.from_numpy(value) for name, value in feed.items()}
        with torch.no_grad():
            made = model(**given | {"decoder_input_ids": given["decoder_input_ids"][:, :4]}, use_cache=True)
        sides = (made.past_key_values.self_attention_cache, made.past_key_values.cross_attention_cache)
        past = {
            f"past_key_values.{layer}.{name}.{kind}": getattr(side.layers[layer], f"{kind}s").numpy()
            for layer in range(2)
            for name, side in zip(("decoder", "encoder"), sides, strict=True)
            for kind in ("key", "value")
        }
        last = {"decoder_input_ids": feed["decoder_input_ids"][:, 4:], "encoder_attention_mask": feed["attention_mask"]}
        assert [s.name for s in cached.signature.inputs] == [*last, *past]
        got = cached.run({**last, **past}, Precision.F32)
        assert np.abs(got["logits"] - whole.run(feed, Precision.F32)["logits"][:, 4:]).max() < 1e-5
        assert got["present.1.decoder.key"].shape == (2, 4, 5, 8)
        (export,) = cached.export(tmp_path, (ExportForm.DEPLOYED,), None)
        assert np.abs(_ort(export, {**last, **past})[0] - got["logits"]).max() < 1e-5

    def test_a_file_of_another_model_is_refused(self, tmp_path: Path) -> None:
        """Tensors that the model has no place for are named, not passed over."""
        config = self.t.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=100, n_positions=64)
        config.architectures = ["GPT2LMHeadModel"]
        config.save_pretrained(tmp_path / "model")
        state = self.t.GPT2LMHeadModel(config).state_dict()
        torch = pytest.importorskip("torch")
        torch.save(state, tmp_path / "own.pth")
        torch.save(state | {"transformer.h.7.extra": torch.zeros(2)}, tmp_path / "more.pth")
        _load("hf", str(tmp_path / "model"), str(tmp_path / "own.pth"))
        with pytest.raises(UsageError, match=r"no place for: transformer\.h\.7\.extra"):
            _load("hf", str(tmp_path / "model"), str(tmp_path / "more.pth"))

    def test_no_network_is_said_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name that is neither a folder nor cached is one typed line, with the nearest model types."""
        _cut_off(monkeypatch)
        with pytest.raises(WeightsUnavailable, match="no route") as caught:
            _load("hf", "brt", "seeded")
        assert "hf:bert@seeded" in caught.value.hint
        assert "\n" not in caught.value.line()
