"""The compliance gate: synthesises the stacks, plans them offline and checks every resource against the controls."""
