"""TensorFlow functions are tried as Keras models are."""

from operator_trials.keras_side import try_case, trying

__all__ = ["try_case", "trying"]
