"""A fault of one layer as a folder of its own: the smallest graph that shows it, a script, a text for a bug tracker.

===================  ==========================================================================
:mod:`.values`       what is known of a fault, and what is tried and found
:mod:`.cutting`      the sub-graph that makes some values from others
:mod:`.exact`        what a case gives in float64, and what rounding does to it
:mod:`.shrinking`    fewer items, fewer nodes, as long as the fault shows
:mod:`.template`     the script ``repro.py`` (never imported: it is read, filled in and written)
:mod:`.texts`        that script and ``REPORT.md``
:mod:`.writing`      the folder, written at once or not at all
===================  ==========================================================================
"""

from __future__ import annotations

from onnxeq.repro.cutting import cut
from onnxeq.repro.shrinking import in_onnxruntime, shrink
from onnxeq.repro.values import AtFault, Case, Execute, Fault, Repro
from onnxeq.repro.writing import check_folder, write_repro

__all__ = [
    "AtFault",
    "Case",
    "Execute",
    "Fault",
    "Repro",
    "check_folder",
    "cut",
    "in_onnxruntime",
    "shrink",
    "write_repro",
]
