"""Layer by layer: where an error is made, and where it only passes through."""
