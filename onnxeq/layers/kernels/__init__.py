"""Which node of a runtime computes wrongly, found with as few runs as possible.

===================  ==========================================================================
:mod:`.suspects`     the nodes whose local error is more than their own rounding
:mod:`.trials`       runs that differ in one setting, after which the fault is gone or not
:mod:`.hidden`       faults that do not show while inner values are asked for
===================  ==========================================================================
"""
