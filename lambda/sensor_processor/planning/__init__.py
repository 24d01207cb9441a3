"""Builds the DynamoDB writes for a batch of readings; no I/O."""
