"""Talks to AWS: the tables, the archive bucket and the anomaly topic."""
