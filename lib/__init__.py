"""The CDKTF program: reads the generated declarations and synthesises the Terraform of the platform and its plants."""
