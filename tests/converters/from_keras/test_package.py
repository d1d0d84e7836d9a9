"""What holds without a framework."""

from __future__ import annotations

import subprocess
import sys

import onnxeq_converters.from_keras as converter


def test_import_and_owns_load_no_framework() -> None:
    """Importing the converter and asking ``owns`` leaves TensorFlow, Keras and tf2onnx unloaded."""
    code = (
        "import sys, onnxeq_converters.from_keras as c; assert not c.owns(object()); "
        "assert c.catalogue('torchvision') == (); "
        "assert not {'tensorflow', 'keras', 'tf2onnx', 'tf_keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_framework_is_one_line_with_the_install_command() -> None:
    """Without TensorFlow, loading raises ``FrameworkMissing`` whose hint installs it."""
    code = """if True:
        import sys
        sys.modules["tensorflow"] = None
        import onnxeq_converters.from_keras as c
        from onnxeq.errors import FrameworkMissing
        from onnxeq.protocols import LoadRequest
        from onnxeq.types import ModelRef
        try:
            c.load(LoadRequest(ModelRef("keras:VGG16", "keras", "VGG16")), print)
        except FrameworkMissing as error:
            assert error.hint == "pip install 'onnxeq[keras]'", error.hint
            assert "\\n" not in error.line()
        else:
            raise AssertionError("no error")
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_owns_goes_by_the_class_hierarchy() -> None:
    """A class is Keras' when a ``Model`` of the keras package is among its bases, whatever its own name."""
    base = type("Model", (), {"__module__": "keras.src.models.model"})
    foreign = type("Model", (), {"__module__": "kerasish.models"})
    assert converter.owns(type("Mine", (base,), {})())
    assert not converter.owns(foreign())
