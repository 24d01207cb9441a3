"""Compares a manifest with the committed record: what a change does to devices and data."""
