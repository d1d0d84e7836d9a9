"""Checks known-good models and prints how close each rung came to its limit.

Every model here is exported by its own framework's exporter, so every verdict must be ``equivalent``; what
the table shows is the margin. The limits in ``onnxeq.ladder.LIMITS`` are set from its largest ratios.

    python benchmarks/known_good.py [REFERENCE ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

from common import RUNGS, largest

import onnxeq
from onnxeq.errors import OnnxeqError
from onnxeq.ladder import LIMITS
from onnxeq.types import Verdict

TORCHVISION = (
    "resnet18 resnet50 mobilenet_v2 mobilenet_v3_small efficientnet_b0 densenet121 squeezenet1_1 "
    "shufflenet_v2_x1_0 googlenet convnext_tiny vit_b_16 swin_t deeplabv3_mobilenet_v3_large"
).split()
KERAS = "ResNet50 MobileNetV2 EfficientNetB0 DenseNet121 Xception InceptionV3 VGG16 NASNetMobile".split()
DEFAULT = [f"torchvision:{n}@seeded" for n in TORCHVISION] + [f"keras:{n}@seeded" for n in KERAS]


def main() -> int:
    """Prints one row per model; fails when one is not equivalent."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("references", nargs="*", default=DEFAULT)
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args()
    width = max(len(r) for r in options.references)
    print(f"{'model':{width}} {'verdict':12} {'seconds':>7} " + " ".join(f"{n:>15}" for n in RUNGS), flush=True)
    rows, bad = [], 0
    for reference in options.references:
        began = time.perf_counter()
        try:
            report = onnxeq.check(reference)
        except OnnxeqError as error:
            print(f"{reference:{width}} {error.line()}", flush=True)
            bad += 1
            continue
        seconds = time.perf_counter() - began
        ratios = {name: largest(report, name) for name in RUNGS}
        cells = " ".join(f"{ratios[n]:15.2f}" for n in RUNGS)
        print(f"{reference:{width}} {report.verdict.value:12} {seconds:7.1f} {cells}", flush=True)
        if report.verdict is not Verdict.EQUIVALENT:
            bad += 1
            for line in (*(c.evidence for c in report.causes), *report.notes):
                print(f"    {line}", flush=True)
        rows.append({"model": reference, "verdict": report.verdict.value, "seconds": seconds, "ratios": ratios})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    for name in RUNGS:
        figures = [(r["ratios"][name], r["model"]) for r in rows if not math.isnan(r["ratios"][name])]
        if figures:
            print(f"largest {name}: {max(figures)[0]:.2f} of {LIMITS[name].factor:g} ({max(figures)[1]})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
