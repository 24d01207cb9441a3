"""AWS IoT's own bulk registration: one task registers the devices of a parameter file, and reports on each."""
