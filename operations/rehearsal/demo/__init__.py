"""The demonstration: the whole platform on the local AWS, end to end, with every figure counted at its own place."""
