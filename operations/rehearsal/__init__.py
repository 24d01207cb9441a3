"""Simulates devices and runs the demo on the local AWS."""
