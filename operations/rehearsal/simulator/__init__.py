"""Simulated devices: real MQTT over mutual TLS, believable signals, and the exact truth of what was sent."""
