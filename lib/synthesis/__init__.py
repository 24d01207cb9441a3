"""Runs one synthesis: from settings and the approved record to checked Terraform JSON."""
