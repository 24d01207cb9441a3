"""Manage private keys, CSRs and the project's own certificate authority; no AWS."""
