"""Two errors for each value: as it ran, and from the inputs that the sides had; who creates them.

=====================  ========================================================================
:mod:`.sweep`          one pass over the judged graph
:mod:`.recomputed`     a node computed once more for other inputs
:mod:`.gauge`          the distance of two arrays in units of rounding
:mod:`.judged`         both errors of one value
:mod:`.local`          the error that each node of a runtime makes by itself
:mod:`.decisions`      results that jump for inputs a rounding apart
:mod:`.roles`          who creates, amplifies, passes on
:mod:`.doubts`         pairs that the errors speak against
:mod:`.identical`      two runs with the same bits, without a pass
:mod:`.contrast`       constants and attributes that two files do not share
=====================  ========================================================================
"""
