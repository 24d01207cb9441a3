"""Turns the manifest `fleet.yaml` into the approved record under `lib/facilities/`."""
