"""The ledger: every native tensor and every constant of an ONNX model accounted for, and the native weights put back.

=====================  =========================================================================
:mod:`.types`          the ledger's values
:mod:`.match`          the straight line: :func:`match`
:mod:`.inventory`      what an ONNX model stores, and who reads it
:mod:`.facts`          which native tensors belong together; :mod:`.place` what belongs in which place
:mod:`.exact`          identical, transposed, reshaped, cast; :mod:`.layouts`, :mod:`.digest`
:mod:`.folding`        BatchNormalization in weights; :mod:`.shifts` in biases
:mod:`.recipes`        the float32 recipes of folding; :mod:`.verdicts` what is an honest fold
:mod:`.pieces`         split and packed tensors, gates; :mod:`.recurrent` their biases
:mod:`.quantized`      integers with a scale and a zero point
:mod:`.near`           near misses; :mod:`.consistency` what is right by value and wrong by place
:mod:`.words`          a difference in words
:mod:`.transplant`     the native weights put back
=====================  =========================================================================
"""

from onnxeq.weights.match import match, native_of
from onnxeq.weights.transplant import transplant
from onnxeq.weights.types import Basis, Entry, EntryStatus, Ledger, Relation

__all__ = ["Basis", "Entry", "EntryStatus", "Ledger", "Relation", "match", "native_of", "transplant"]
