"""Computes what exists from a valid manifest; no I/O."""
