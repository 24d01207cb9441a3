"""Estimate of a month's cost: units by service from the manifest, times prices that are data."""
