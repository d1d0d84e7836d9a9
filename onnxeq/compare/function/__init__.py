"""How far two models are apart for the same inputs, split into weights, graph and preprocessing.

=====================  ==============================================================================
:mod:`.values`         what a split is
:mod:`.common`         the largest part that two graphs have in common
:mod:`.tensors`        a stored tensor in its layer's own order, and back
:mod:`.executing`      the four combinations of graph and weights, in float64
:mod:`.splitting`      the straight line, for one pair
=====================  ==============================================================================
"""
