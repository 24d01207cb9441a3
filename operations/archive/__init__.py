"""Asks the raw archive: what Athena needs to read it as it lies in S3."""
