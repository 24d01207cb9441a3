"""Checks each rendered artefact once more before it is written."""
