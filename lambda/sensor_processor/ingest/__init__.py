"""Parses a Kinesis batch into readings, or into quarantined records with a reason."""
