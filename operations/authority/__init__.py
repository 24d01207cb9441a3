"""The project's own certificate authority: made, signing devices' CSRs, revoking, publishing its CRL."""
