"""What importing costs, asked of a bare interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = ("torch", "tensorflow", "keras", "tf2onnx", "torchvision")


def modules_after(code: str) -> set[str]:
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('LOADED', *sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(shown.stdout.partition("LOADED")[2].split())


def test_help_loads_nothing_heavy() -> None:
    """``onnxeq --help`` loads neither numpy, onnx, onnxruntime, rich nor a framework."""
    loaded = modules_after("from onnxeq.cli.main import run\nrun(['--help'])\nrun(['golden', '--help'])")
    assert not loaded & {"numpy", "onnx", "onnxruntime", "rich", *FRAMEWORKS}


def test_the_package_itself_is_light() -> None:
    """``import onnxeq`` loads neither numpy nor onnx; they come with the first call."""
    assert not modules_after("import onnxeq") & {"numpy", "onnx", "onnxruntime", *FRAMEWORKS}
    assert not modules_after("import onnxeq.golden") & {"numpy", "onnx", "onnxruntime", *FRAMEWORKS}


def test_the_pytest_plug_in_is_light() -> None:
    """Every start of pytest imports it: neither numpy nor onnx comes with it, nor the command line's packages."""
    loaded = modules_after("import onnxeq.pytest_plugin")
    assert not loaded & {"numpy", "onnx", "onnxruntime", "rich", "typer", *FRAMEWORKS}


def test_judging_an_unchanged_golden_needs_no_onnx() -> None:
    """What ``golden check`` loads before it meets a change takes neither onnx nor rich, which would be half of it."""
    loaded = modules_after("import onnxeq.golden.checking, onnxeq.golden.judged, onnxeq.report.golden")
    assert not loaded & {"onnx", "rich", "onnxruntime", *FRAMEWORKS}


def test_the_host_loads_no_framework_and_no_runtime() -> None:
    """Everything that the host runs itself is free of frameworks and of onnxruntime."""
    code = "import onnxeq, onnxeq.golden; onnxeq.check; onnxeq.compare; onnxeq.convert; onnxeq.golden.check"
    loaded = modules_after(f"{code}\nimport onnxeq.referee, onnxeq.graph.normalize")
    assert not loaded & {"onnxruntime", "onnx.reference", *FRAMEWORKS}


@pytest.mark.parametrize("converter", ["from_torch", "from_keras", "from_tensorflow", "from_tflite"])
def test_a_converter_is_asked_without_its_framework(converter: str) -> None:
    """``owns`` answers without importing the framework."""
    code = f"import onnxeq_converters.{converter} as c\nassert not c.owns(object())"
    assert not modules_after(code) & set(FRAMEWORKS)


def test_functions_win_over_modules_of_the_same_name() -> None:
    """``onnxeq.check`` is the function, whichever way its module was imported first."""
    code = "import onnxeq.check, onnxeq.convert, onnxeq\nassert callable(onnxeq.check) and callable(onnxeq.convert)"
    code += "\nimport onnxeq.compare.values; assert callable(onnxeq.compare)"
    subprocess.run([sys.executable, "-c", code], check=True)
