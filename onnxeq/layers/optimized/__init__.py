"""What onnxruntime's optimised graph means, and where its values can be read without changing it.

==================  ===========================================================================
:mod:`.standard`    an optimised graph in standard operators
:mod:`.unfused`     its fused operators, taken apart
:mod:`.blocks`      its tensors whose channels lie in blocks
:mod:`.sheet`       the graph while it is rewritten
:mod:`.observed`    the values that exist in it, and what they are in the file
==================  ===========================================================================
"""
