"""What two nodes that should compute the same do not have in common, and the proof of it.

====================  =========================================================================
:mod:`.findings`      each fault of one artifact, with its place and its proof
:mod:`.differences`   what two nodes, or two groups of them, do not have in common
:mod:`.parameters`    what a node is set by, under its schema's names
:mod:`.bodies`        the bodies of If, Loop and Scan
:mod:`.crossed`       inputs that were exchanged
:mod:`.counterfact`   a group of nodes with one difference taken back
:mod:`.repairs`       the node at fault in a chain that computes a mask, an index or a shape
:mod:`.wording`       differences in words
====================  =========================================================================
"""
