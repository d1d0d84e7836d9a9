"""Preprocessing recipes: how a zoo makes a model's input of a picture, as data that can be run and compared.

==================  ================================================================================
:mod:`.recipe`      the steps, as values, in words and in JSON
:mod:`.parts`       in what two recipes differ, and a recipe with some parts of another
:mod:`.neutral`     this project's own execution of a recipe, with Pillow and numpy
:mod:`.onnx_zoo`    what the pages of the ONNX Model Zoo say
:mod:`.pictures`    the pictures that a user gives, prepared by a recipe
:mod:`.rung`        the rung ``preprocessing``: what the other recipe does to the outputs, step by step
==================  ================================================================================
"""
