"""A corpus of faults whose cause and place are known, and of variants that are none: see `../attribution.py`."""
