"""Hypothesis profiles, and the import path of the strategy package beside the tests.

``ONNXEQ_HYPOTHESIS=long`` draws new models each time, thousands of them; the default profile draws the same few.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

# A model takes as long as it takes, and few are refused: the tests themselves count those.
_COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
settings.register_profile("ci", _COMMON, derandomize=True, max_examples=40)
settings.register_profile("long", _COMMON, print_blob=True, max_examples=int(os.environ.get("ONNXEQ_EXAMPLES", "1500")))
settings.load_profile(os.environ.get("ONNXEQ_HYPOTHESIS", "ci"))
