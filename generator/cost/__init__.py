"""What a fleet costs a month: units by service from the manifest, times prices that are data."""
