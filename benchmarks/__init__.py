"""Compares this project with what else could do its work, and with the limit that nothing can pass."""
