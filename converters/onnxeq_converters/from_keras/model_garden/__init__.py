"""TensorFlow Model Garden: the vision classifiers of tf-models-official, built as its own experiments build them.

:mod:`.names` says what there is and what it is called, as text from the package's tables; :mod:`.package` reads these
tables; :mod:`.configuring` makes a configuration, :mod:`.building` a model of it.
"""

from __future__ import annotations

from onnxeq_converters.from_keras.model_garden.building import build, refuse_pretrained, value_range
from onnxeq_converters.from_keras.model_garden.configuring import entries
from onnxeq_converters.from_keras.model_garden.package import VERSION

__all__ = ["VERSION", "build", "entries", "refuse_pretrained", "value_range"]
