"""Building blocks that several constructs use: IAM documents, roles, buckets, alarms, thing resources."""
