"""Graphs: reading them safely (``inspect``, ``files``) and bringing them into one form (``normalize``).

Each pass is one module and one row of ``table``; ``frame`` verifies that a pass did what it declares.
"""
