"""The constructs of platform and facilities; they never import each other.

Each is a plain class that adds its resources directly to the stack's scope, with the resource's own name (less the
environment suffix) as construct id. So a resource's address reads like its name (`aws_kinesis_stream.stream-telemetry`)
and stays the same when code moves between classes: a nested scope would add a hash of its path to every address, and
moving a class would destroy and re-create what it made.
"""
