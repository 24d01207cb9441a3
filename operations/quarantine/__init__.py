"""Looks at what the sensor processor put into quarantine, and gives it to the stream again."""
