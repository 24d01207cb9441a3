"""Programs of the tool's maintainers: releases with their SBOMs, and the comparison with CDK Terrain."""
