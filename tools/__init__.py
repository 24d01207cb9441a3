"""What maintainers of the tool run: releases with their SBOMs, and the comparison with CDK Terrain."""
