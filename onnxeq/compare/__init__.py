"""The same architecture in several zoos: what is different, and where.

``comparing`` is the straight line; ``values`` holds what it returns; ``reading`` makes canonical layers of ONNX files;
``accuracy`` runs them on labelled items.
"""
