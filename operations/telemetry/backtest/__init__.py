"""Runs the processor's detectors over a recorded series and draws what they find."""
