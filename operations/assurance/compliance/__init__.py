"""The compliance gate: synthesises the stacks, plans them offline and holds every resource against the controls."""
