"""Readers of device lists: every maker's format becomes the same rows, and what is wrong with one stays its own."""
