"""Graphs side by side, node by node: which value is which, where error is made, and what makes it.

====================  =========================================================================
:mod:`.program`       a graph taken apart, each node computed in float64 on its own
:mod:`.likeness`      whether two arrays are the same value, up to rounding and layout
:mod:`.probes`        a runtime's own values of inner tensors
:mod:`.extents`       types and sizes of values before anything runs
:mod:`.pairing`       which value of one graph is which of another, without running them
:mod:`.walking`       an artifact run beside its reference, corrected wherever it departs
:mod:`.faults`        what two nodes do not have in common, with place and proof
:mod:`.optimized`     what an optimised graph of onnxruntime means
:mod:`.matching`      which value of a graph is which of a framework's, by all of these
:mod:`.judging`       both errors of each value, and who creates them
:mod:`.kernels`       which node of a runtime computes wrongly
====================  =========================================================================
"""
