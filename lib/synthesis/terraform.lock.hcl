# The package of the AWS provider that stacks are synthesised for: linux_amd64 of 5.100.0.
# Other platforms: docs/platform.md, "The provider's lock file".

provider "registry.terraform.io/hashicorp/aws" {
  version     = "5.100.0"
  constraints = "5.100.0"
  hashes = [
    "h1:edXOJWE4ORX8Fm+dpVpICzMZJat4AX0VRCAy/xkcOc0=",
  ]
}
