from __future__ import annotations

from pathlib import Path

import pytest

from onnxeq import zoo
from onnxeq.errors import UnknownZoo, UnusableModel, UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torchvision:resnet50", ("torchvision", "resnet50", "", 0)),
        ("torchvision:resnet50@seeded", ("torchvision", "resnet50", "seeded", 0)),
        ("keras:ResNet50@seeded:7", ("keras", "ResNet50", "seeded", 7)),
        ("keras:ResNet50@pretrained", ("keras", "ResNet50", "pretrained", 0)),
    ],
)
def test_zoo_references(text: str, expected: tuple[str, str, str, int]) -> None:
    """``zoo:name[@weights]`` is read into its parts."""
    ref = zoo.parse(text)
    assert (ref.zoo, ref.name, ref.weights, ref.seed) == expected
    assert ref.text == text


def test_a_folder_is_a_model_of_transformers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``hf:DIR#part`` becomes a whole path; a folder that happens to have a model's name is no model."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "bert", "resnet50"):
        Path(name).mkdir()
    Path("mine/config.json").write_text("{}")
    assert zoo.parse("hf:mine#encoder@seeded").name == f"{tmp_path.resolve()}/mine#encoder"
    assert zoo.parse("hf:./bert").name == f"{tmp_path.resolve()}/bert"
    assert zoo.parse("hf:bert@seeded").name == "bert"
    assert zoo.parse("timm:resnet50").name == "resnet50"


def test_files_and_factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is a file; ``file.py:name`` and ``module:name`` are factories; weights may follow each."""
    monkeypatch.chdir(tmp_path)
    for name in ("model.onnx", "model.keras", "weights.pth", "mine.py"):
        Path(name).write_bytes(b"")
    assert zoo.parse("model.onnx").zoo == "file"
    assert zoo.converter_for(zoo.parse("model.onnx")) == "onnx"
    assert zoo.converter_for(zoo.parse("model.keras")) == "keras"
    factory = zoo.parse("mine.py:build@weights.pth")
    assert (factory.zoo, factory.name, Path(factory.module).name) == ("factory", "build", "mine.py")
    assert Path(factory.weights).name == "weights.pth"
    assert zoo.parse("mine:build").module == "mine"


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("torchvison:resnet50", UnknownZoo, "torchvision"),
        ("missing.onnx", UnusableModel, "no file missing.onnx"),
        ("resnet50", UnusableModel, "zoo:name"),
        ("torchvision:resnet50@sedeed", UsageError, "seeded:N"),
        ("torchvision:resnet50@seeded:x", UsageError, "@seeded:7"),
        ("torchvision:", UsageError, "onnxeq zoo list torchvision"),
        ("no_such.py:build", UnusableModel, "no file no_such.py"),
        ("", UsageError, "empty"),
    ],
)
def test_bad_references_say_what_to_type(text: str, error: type[Exception], says: str) -> None:
    """Each malformed reference is a usage error whose one line names the remedy."""
    with pytest.raises(error) as caught:
        zoo.parse(text)
    line = caught.value.line()  # type: ignore[attr-defined]
    assert says in line
    assert "\n" not in line


def test_a_folder_and_an_unknown_suffix(tmp_path: Path) -> None:
    """A folder and a file of unknown kind are refused with the kinds that can be read."""
    (tmp_path / "model.dat").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "model.dat"):
        with pytest.raises(UnusableModel) as caught:
            zoo.parse(str(path))
        assert ".onnx" in caught.value.line()


def test_a_saved_model_is_named_by_its_folder(tmp_path: Path) -> None:
    """The folder, the file in it, and ``FOLDER:SIGNATURE`` are one model; the suffix of a folder says nothing."""
    folder = tmp_path / "net.v1.onnx"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"")
    plain, inner, named = (zoo.parse(f"{folder}{rest}") for rest in ("", "/saved_model.pb", ":scores"))
    assert {ref.name for ref in (plain, inner, named)} == {str(folder.resolve())}
    assert (plain.module, inner.module, named.module) == ("", "", "scores")
    assert {zoo.converter_for(ref) for ref in (plain, inner, named)} == {"tensorflow"}


def test_every_converter_that_is_brought_along_is_known(tmp_path: Path) -> None:
    """Converters are found without the installed metadata; those that only read files are no zoos."""
    known = zoo.installed_converters()
    assert known.items() >= zoo.BUILT_IN.items()
    assert not {"tensorflow", "tflite"} & set(zoo.installed_zoos())
    for name, converter in (("net.tflite", "tflite"), ("frozen.pb", "tensorflow")):
        (tmp_path / name).write_bytes(b"")
        assert zoo.converter_for(zoo.parse(str(tmp_path / name))) == converter
