"""What the ladder relies on, of every converter; see ``onnxeq/protocols.py`` and ``converters/README.md``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

import onnxeq
from onnxeq import zoo_cards
from onnxeq.errors import BadInputs, CannotRun, UnknownModel
from onnxeq.noise import AMPLITUDE
from onnxeq.preprocessing.neutral import prepare
from onnxeq.preprocessing.recipe import recipe_from_record, recipe_to_record
from onnxeq.protocols import LoadRequest
from onnxeq.referee.executor import Executor
from onnxeq.types import ExportForm, ModelRef, Precision, Verdict

FORMS = (ExportForm.UNFOLDED, ExportForm.DEPLOYED)


def test_it_has_the_names_of_the_protocol(subject: Any) -> None:
    """A module with four functions; what it wraps has every member of a native model."""
    assert all(callable(getattr(subject.converter, name)) for name in ("load", "wrap", "owns", "catalogue"))
    native = subject.native()
    assert all(callable(getattr(native, name)) for name in ("run", "export", "weights", "layers", "kernels"))
    assert isinstance(native.shortcut, str)
    assert isinstance(native.no_float64, str)


def test_it_knows_its_own_models_and_no_others(subject: Any) -> None:
    """``owns`` says yes to its framework's model and no to anything else; a file is nobody's object."""
    assert subject.converter.owns(subject.model()) == subject.live
    assert not any(subject.converter.owns(other) for other in (object(), np.zeros(3), "text", None))


def test_importing_it_loads_no_framework(subject: Any) -> None:
    """The module is asked ``owns`` in the caller's process: that must not cost an import."""
    code = (
        f"import sys; import {subject.converter.__name__} as c; c.owns(object());"
        "print([m for m in ('torch', 'tensorflow', 'keras', 'tf2onnx') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_its_catalogue_is_a_list_of_different_names(subject: Any) -> None:
    """What a zoo lists has a name, once; a converter of files has no zoo."""
    names = [entry.name for entry in subject.converter.catalogue(subject.zoo)]
    assert bool(names) == bool(subject.zoo)
    assert len(set(names)) == len(names)


def test_an_unknown_name_is_told_with_others(subject: Any) -> None:
    """A misspelt name is a typed error whose hint says what there is."""
    if not subject.zoo:
        pytest.skip("it has no zoo")
    near = subject.converter.catalogue(subject.zoo)[0].name
    request = LoadRequest(ModelRef(f"{subject.zoo}:{near}x", subject.zoo, f"{near}x", "seeded"))
    with pytest.raises(UnknownModel) as caught:
        subject.converter.load(request, lambda _step: None)
    assert near in caught.value.hint


def test_a_wrapped_model_is_not_changed(subject: Any, tmp_path: Path) -> None:
    """Loading, running in both precisions and exporting leave the caller's weights bit for bit as they were."""
    model = subject.model()
    before = subject.weights(model)
    native = subject.native(model)
    native.run(subject.feed(), Precision.F32)
    if not native.no_float64:
        native.run(subject.feed(), Precision.F64)
    (tmp_path / "export").mkdir()
    native.export(tmp_path / "export", FORMS, None)
    after = subject.weights(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_it_says_what_the_model_takes(subject: Any) -> None:
    """The declared input comes back with its name, type and rank."""
    (spec,) = subject.native().signature.inputs
    assert (spec.name, spec.dtype, len(spec.shape)) == (subject.spec.name, "float32", len(subject.spec.shape))
    assert spec.shape[1:] == subject.spec.shape[1:]


def test_the_float32_run_repeats_itself(subject: Any) -> None:
    """Inference mode: the same inputs give the same bits, and other inputs other numbers."""
    native = subject.native()
    first, again = (native.run(subject.feed(), Precision.F32) for _ in range(2))
    other = native.run(subject.feed(seed=1), Precision.F32)
    assert list(first) == list(again)
    for name, value in first.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, again[name])
        assert not np.array_equal(value, other[name])


def test_the_float64_run_is_the_same_program_in_float64(subject: Any) -> None:
    """It agrees with float32 to float32's rounding, and its digits go on behind that; or it is a typed error."""
    native = subject.native()
    if native.no_float64:
        with pytest.raises(CannotRun, match=re.escape(native.no_float64)):
            native.run(subject.feed(), Precision.F64)
        return
    single, double = (native.run(subject.feed(), p) for p in (Precision.F32, Precision.F64))
    assert list(single) == list(double)
    for name, value in double.items():
        assert value.dtype == np.float64
        assert np.abs(value - single[name]).max() <= 1e-5 * np.abs(value).max()
        assert (value != value.astype(np.float32)).mean() > 0.5


def test_weights_are_named_arrays_with_a_fingerprint(subject: Any) -> None:
    """Every one is an array; a change of one changes the fingerprint, a second loading does not."""
    model = subject.model()
    native, again = subject.native(model), subject.native(model)
    assert native.weights()
    assert all(isinstance(value, np.ndarray) for value in native.weights().values())
    mark = native.provenance["weights_sha256"]
    assert again.provenance["weights_sha256"] == mark
    subject.changed(model)
    assert subject.native(model).provenance["weights_sha256"] != mark


def test_exports_are_whole_and_name_their_interface(subject: Any, tmp_path: Path) -> None:
    """One valid file per form, in the order asked for, with an input for each input and an output for each output."""
    native = subject.native()
    outputs = list(native.run(subject.feed(), Precision.F32))
    exports = native.export(tmp_path, FORMS, None)
    assert [e.form for e in exports] == list(FORMS)
    for export in exports:
        onnx.checker.check_model(str(export.path))
        graph = onnx.load(export.path).graph
        assert set(export.input_names) <= {i.name for i in graph.input}
        assert list(export.output_names) == [o.name for o in graph.output]
        assert (len(export.input_names), len(export.output_names)) == (1, len(outputs))


def _pictured(subject: Any, function: str) -> Any:
    """What an optional function says of the zoo's model that takes pictures."""
    ask = getattr(subject.converter, function, None)
    if not subject.pictured:
        assert ask is None
        pytest.skip("it has no recipes")
    name = subject.pictured
    return ask(LoadRequest(ModelRef(f"{subject.zoo}:{name}@seeded", subject.zoo, name, "seeded")))


def test_the_recipe_is_what_the_zoos_code_does(subject: Any, tmp_path: Path) -> None:
    """As data it survives JSON, and run by this project's own code it gives the zoo's bits, in the model's shape."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (301, 407, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = _pictured(subject, "preprocessing")
    assert recipe_from_record(recipe_to_record(found.recipe)) == found.recipe
    assert found.recipe.exact
    assert found.recipe.source
    array = found.run(tmp_path / "a.png")
    (spec,) = _pictured(subject, "card").entry.inputs
    assert (array.dtype, array.shape) == (np.dtype(spec.dtype), (1, *spec.shape[1:]))
    assert np.array_equal(array, prepare(found.recipe, tmp_path / "a.png"))
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(BadInputs, match=r"b\.png"):
        found.run(tmp_path / "b.png")


def test_what_a_zoo_says_comes_with_its_source(subject: Any) -> None:
    """Four facts, each with where it stands or why it is not known; an unknown name is told with others."""
    card = _pictured(subject, "card")
    assert card.entry.name == subject.pictured
    assert set(card.facts) == {"accuracy", "licence", "parameters", "weights"}
    assert all(fact.source for fact in card.facts.values())
    wrong = f"{subject.pictured}x"
    for ask in (subject.converter.card, subject.converter.preprocessing):
        with pytest.raises(UnknownModel) as caught:
            ask(LoadRequest(ModelRef(f"{subject.zoo}:{wrong}", subject.zoo, wrong, "seeded")))
        assert subject.pictured in caught.value.hint


def _in_float64(subject: Any) -> Any:
    """The subject's model; the test is skipped where its framework has no float64."""
    native = subject.native()
    if native.no_float64:
        pytest.skip(native.no_float64)
    return native


def test_the_unfolded_export_is_the_float64_run(subject: Any, tmp_path: Path) -> None:
    """In float64, graph and program differ by float64's rounding: that is what makes the graph rung sharp."""
    native = _in_float64(subject)
    exact = list(native.run(subject.feed(), Precision.F64).values())
    (export,) = native.export(tmp_path, (ExportForm.UNFOLDED,), None)
    feed = dict(zip(export.input_names, subject.feed().values(), strict=True))
    found = Executor(onnx.load(export.path)).run(feed)
    for name, value in zip(export.output_names, exact, strict=True):
        assert np.abs(found[name] - value).max() <= 1e-13 * np.abs(value).max()


def test_inner_values_go_by_the_names_of_the_unfolded_export(subject: Any, tmp_path: Path) -> None:
    """Each is one of the graph's values, and has its number; names limit them."""
    native = _in_float64(subject)
    native.run(subject.feed(), Precision.F32)
    (export,) = native.export(tmp_path, (ExportForm.UNFOLDED,), None)
    values = {v.name: v.array.copy() for v in native.layers(subject.feed(), Precision.F64)}
    feed = dict(zip(export.input_names, subject.feed().values(), strict=True))
    graph = onnx.load(export.path).graph
    made = {name for node in graph.node for name in node.output}
    shared = sorted(made & set(values))
    assert shared
    told = 0
    found = Executor(onnx.load(export.path)).run(feed, outputs=shared)
    for name in shared:
        if values[name].dtype == np.float64 and np.shape(found[name]) == values[name].shape:
            assert np.abs(found[name] - values[name]).max() <= 1e-12 * max(np.abs(values[name]).max(), 1e-300)
            told += 1
    assert told > 0
    only = [v.name for v in native.layers(subject.feed(), Precision.F64, shared[:1])]
    assert only == shared[:1]


def test_healthy_kernels_are_within_their_rounding(subject: Any) -> None:
    """What judges the operators of the float32 run finds nothing where nothing is wrong."""
    judged = list(subject.native().kernels(subject.feed()))
    assert all(kernel.ratio <= AMPLITUDE for kernel in judged)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_live_model_is_checked(subject: Any, wrong: bool, tmp_path: Path, fresh_cache: Path) -> None:
    """Equivalent to its own export; divergent from it once a weight has changed."""
    model = subject.model()
    shapes = {subject.spec.name: tuple(3 if isinstance(d, str) else d for d in subject.spec.shape)}
    path = tmp_path / "model.onnx"
    onnxeq.convert(model, path, shapes=shapes)
    if wrong:
        subject.changed(model)
    verdict = onnxeq.check(model, path, shapes=shapes).verdict
    assert verdict is (Verdict.DIVERGENT if wrong else Verdict.EQUIVALENT)


def test_the_example_is_forty_lines(example: ModuleType) -> None:
    """As the README says of it, blank lines aside."""
    assert sum(bool(line.strip()) for line in Path(str(example.__file__)).read_text().splitlines()) <= 40


def test_the_example_is_checked_by_its_zoos_name(example: ModuleType, fresh_cache: Path) -> None:
    """``affine:double`` is found through its entry point, loaded in a job, exported and found equivalent."""
    report = onnxeq.check("affine:double")
    assert report.verdict is Verdict.EQUIVALENT
    assert report.source["ref"] == "affine:double"
    assert report.coverage.weights_accounted == report.coverage.weights_total == 2


def test_a_zoo_without_recipes_is_shown_by_its_catalogue(example: ModuleType, fresh_cache: Path) -> None:
    """``zoo show affine:double``: its row, no facts, and that there is no recipe; a wrong name with others."""
    told = zoo_cards.card("affine:double", None)
    assert (told["entry"]["name"], told["facts"], told["recipe"]) == ("double", {}, None)
    assert "no recipe of its own" in told["no_recipe"]
    with pytest.raises(UnknownModel) as caught:
        zoo_cards.card("affine:dubble", None)
    assert "double" in caught.value.hint
