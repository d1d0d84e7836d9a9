"""What has been looked at: discrepancies that are true, and differences that are none."""

TRUE: dict[str, str] = {}
"""``component: label`` -> against what it was checked."""

ALLOWED: dict[str, str] = {}
"""``component: label`` (a ``*`` at the end stands for anything) -> why it is no discrepancy."""
