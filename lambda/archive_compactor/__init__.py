"""The archive compactor: turns the raw archive's small objects into few Parquet objects, on a schedule."""
