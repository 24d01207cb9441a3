"""One stack for each facility, one for the device endpoint, and the base class of all stacks."""
