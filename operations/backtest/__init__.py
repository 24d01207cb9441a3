"""Runs the processor's own detectors over a person's history and draws what they would have said."""
