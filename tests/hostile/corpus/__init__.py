"""Builders of hostile files: each writes one attack into a folder and says what to type to fall for it."""
