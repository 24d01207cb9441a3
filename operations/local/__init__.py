"""An AWS on this machine: an emulator, the real Terraform, and the two services that the emulator lacks."""
