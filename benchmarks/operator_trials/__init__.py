"""Trying operator cases: feeds, one side per framework, and the judge."""
