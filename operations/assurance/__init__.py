"""Offline checks: the compliance gate and the device isolation proof."""
