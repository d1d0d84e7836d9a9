"""What to do next, for each kind of break."""

from __future__ import annotations

from onnxeq.types import Report, Role, Status, Verdict

__all__ = ["next_steps"]


def next_steps(report: Report) -> tuple[str, ...]:
    """Up to three sentences, each with something to type or change; empty when there is nothing to do."""
    if report.verdict is Verdict.EQUIVALENT:
        return ()
    source = str(report.source.get("ref", "SOURCE"))
    steps = _of_layers(report, source)
    if report.verdict is Verdict.INCONCLUSIVE:
        reasons = [r.reason for r in report.rungs if r.status is Status.NOT_RUN]
        if any("failed on inputs" in reason or "fails on this model" in reason for reason in reasons):
            steps.append("the model does not take the generated inputs: give some with --inputs FILE.npz")
        elif reasons:
            steps.append("make the missing rungs run, or take the verdict for the ones above only")
        if any("did not vary" in note for note in report.notes):
            steps.append("give inputs to which the output responds: --inputs FILE.npz")
    broken = {cause.rung for cause in report.causes}
    if any("NaN on both sides" in cause.evidence for cause in report.causes):
        steps.append(
            "find what makes the source itself give NaN (weights, inputs out of range): nothing can be proved on it"
        )
    elif broken & {"graph", "weights", "interface"}:
        steps.append(
            f"export afresh and compare: onnxeq convert {source} -o fresh.onnx; onnxeq check {source} fresh.onnx"
        )
    if any("fast path" in cause.evidence for cause in report.causes):
        steps.append(
            "decide which result is wanted: torch.backends.mha.set_fastpath_enabled(False) gives the artifact's"
        )
    elif "native-rounding" in broken:
        steps.append(
            "run the framework with full float32 arithmetic (no TF32, no reduced-precision matmul) and check again"
        )
    if "preprocessing" in broken:
        steps.append(f"prepare the deployed side's pictures by the source's recipe: onnxeq zoo show {source} --json")
    if "kernels" in broken:
        steps.append("try another onnxruntime version, or report the kernel: the job folders in the cache replay it")
    if "optimizer" in broken:
        steps.append("deploy with SessionOptions.graph_optimization_level = ORT_DISABLE_ALL until the pass is fixed")
    if "provider" in broken:
        steps.append("set the CUDA provider's option use_tf32 to 0, or accept it: --accept tf32")
    if "lowering" in broken:
        steps.append(
            "look for a function split into parts that cancel (log1p as Log(1+x), expm1 as Exp-1) and rewrite it"
        )
    if any("a shape baked in at export" in cause.evidence for cause in report.causes):
        steps.append(
            "export again with that axis dynamic, and with sizes taken from the input, not from Python numbers"
        )
    elif "stability" in broken:
        steps.append("look for random operators, dropout left in training mode, or uninitialised state")
    if "normalize" in broken:
        steps.append(
            "this is a fault of onnxeq's normaliser: report it with the model; the verdict on the artifact stands"
        )
    return tuple(steps[:3])


def _of_layers(report: Report, source: str) -> list[str]:
    """What :func:`onnxeq.diff` can do besides with the layers that create error."""
    if not any(layer.role is Role.CREATES for layer in report.layers):
        return []
    command = " ".join(["onnxeq diff", source, *filter(None, [str(report.target.get("ref") or "")])])
    return [f"run such a layer alone: {command} --repro DIR; --plot FILE.svg draws all of them"]
