"""Everything that was executed for one check: what is judged, and what attribution asks further questions of.

==================  ================================================================
:mod:`.framework`   gathers it for a framework's model
:mod:`.onnx_file`   gathers it for an ONNX file
==================  ================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxeq.artifact import ArtifactRuns
from onnxeq.ladder import Execution, RungPlan
from onnxeq.sides import Artifact, NativeSide
from onnxeq.types import ModelRef, TensorSpec
from onnxeq.weighing import Weighing

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """Everything that was executed for one check, before it is judged.

    Attributes:
        ref: The source's reference.
        provenance: What the source says about itself.
        artifact: The ONNX file that is judged.
        target_ref: Its name for the reader; empty when it is the source itself.
        runs: Its executions.
        executions: Those and the source's, by name.
        plans: The rungs to climb.
        reference: The execution that users of the source see.
        inputs: Paired inputs of both sides.
        batches: The batch size of each feed; their sum is how many inputs were tried.
        joint: Whether one rung judges graph and weights together.
        sure: Whether the artifact's own graph tells which outputs should depend on the inputs: it does for an
            export of ours, not for an artifact that may have lost the connection.
        notes: What the export had to say.
        timings: One row per job.
        shortcut: What the source's framework may run in place of the model's own code.
        native: The framework's model, to ask further questions of; ``None`` where the source is an ONNX file.
        ledger: The ledger, how to ask for it again, and what put-back weights do; ``None`` where there is none.
        source_runs: The source's own executions, where it is an ONNX file: ``native-rounding`` goes by its units.
        deployed: The execution that users of the target see; the runtime's as deployed where it is empty.
        target_said: What the target says about itself, where it is no ONNX file.
        sizes: Folder of feeds of other sizes, where a brought artifact leaves axes free besides the batch.
    """

    ref: ModelRef
    provenance: Mapping[str, Any]
    artifact: Artifact
    target_ref: str
    runs: ArtifactRuns
    executions: Mapping[str, Execution]
    plans: tuple[RungPlan, ...]
    reference: str
    inputs: tuple[tuple[TensorSpec, TensorSpec], ...]
    batches: tuple[int, ...]
    joint: bool
    sure: bool
    notes: tuple[str, ...]
    timings: tuple[Mapping[str, Any], ...]
    shortcut: str = ""
    native: NativeSide | None = None
    source_runs: ArtifactRuns | None = None
    deployed: str = ""
    target_said: Mapping[str, Any] = field(default_factory=dict)
    ledger: Weighing | None = None
    sizes: Path | None = None
