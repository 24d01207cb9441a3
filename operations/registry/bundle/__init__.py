"""Device bundles: all that the devices of a plant need to connect, in one archive, with a receipt for its hand-over."""
