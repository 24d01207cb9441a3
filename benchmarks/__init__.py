"""Measures this project beside what else could do its work, and beside the limit that nothing can pass."""
