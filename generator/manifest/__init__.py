"""Reads fleet.yaml and its companion files into frozen models, or reports every fault with its place."""
