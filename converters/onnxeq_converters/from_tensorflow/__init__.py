"""TensorFlow programs as native models. What Keras models need of it, too, is here."""
