"""Which value of one graph is which of another, told without running them.

=======================  ======================================================================
:mod:`.pairs`            the pairs, from all that follows
:mod:`.labels`           operators, attributes and constants in hashes
:mod:`.content`          a graph in hashes: what each value is computed from, what becomes of it
:mod:`.correspondence`   pairs found so far, one to one
:mod:`.neighbours`       what stands next to a pair, and may be one for that reason
:mod:`.folded`           a BatchNormalization in one graph, in a Conv's weights in the other
=======================  ======================================================================
"""
