"""Limits of AWS that the generator and the compliance gate share: text patterns, quotas, regions."""
