"""The CDKTF program: synthesise Terraform stacks of platform and facilities from the approved record."""
