"""Exact aggregates: sums, minutes, periods and quantile sketches."""
