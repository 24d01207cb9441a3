"""Reads the approved record and the device identities as data; nothing in them is executed."""
