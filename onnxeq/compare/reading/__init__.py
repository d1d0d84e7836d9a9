"""ONNX files as layers in one canonical form, whatever layout, exporter or spelling they come in.

``opening`` is the way from a file to a graph; ``operators`` says which function reads which operator.
"""
