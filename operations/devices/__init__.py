"""The life of a device after its onboarding: shown, activated, rotated, revoked, retired, each in AWS's legal order."""
