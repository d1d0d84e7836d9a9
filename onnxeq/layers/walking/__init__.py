"""An artifact run beside its reference in float64, corrected wherever it departs.

===================  ==========================================================================
:mod:`.expansion`    a reference taken apart as far as the artifact is
:mod:`.alignment`    what is known so far: pairs and departures
:mod:`.walk`         the walk itself, node by node
:mod:`.hypotheses`   candidates tried in the place of a departure that no name tells
:mod:`.settling`     results computed one by one: a value of the reference, a departure, or open
:mod:`.twins`        values that the reference makes with the same weights
===================  ==========================================================================
"""
