"""Onboarding: from a list of devices to registered things, each under its own certificate."""
