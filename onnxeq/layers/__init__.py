"""Graphs side by side, node by node: which value is which, where error is made, and what makes it.

Against a reference, in float64:

====================  =========================================================================
:mod:`.program`       a graph taken apart, each node computed in float64 on its own
:mod:`.expansion`     a reference taken apart as far as the artifact is
:mod:`.likeness`      whether two arrays are the same value, up to rounding and layout
:mod:`.alignment`     an artifact run beside its reference, corrected wherever it departs
:mod:`.differences`   what two nodes, or two groups of them, do not have in common
:mod:`.counterfact`   a group of nodes with one difference taken back
:mod:`.wording`       differences in words
:mod:`.findings`      all of that for one artifact: each fault with its place and its proof
====================  =========================================================================

Of any two graphs, without running them:

====================  =========================================================================
:mod:`.labels`        operators, attributes and constants in hashes
:mod:`.content`       a graph in hashes: what each value is computed from, what becomes of it
:mod:`.pairing`       which value of one graph is which of another
:mod:`.neighbours`    what stands next to a pair, and may be one for that reason
:mod:`.folded`        a BatchNormalization in one graph, in a Conv's weights in the other
:mod:`.optimized`     an optimised graph of onnxruntime in standard operators
:mod:`.blocks`        its tensors whose channels lie in blocks
:mod:`.unfused`       its fused operators, taken apart
====================  =========================================================================

The other modules look at a runtime: the local error of each node, probed and judged by its own rounding.
"""
