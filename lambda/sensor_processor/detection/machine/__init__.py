"""Watches a whole machine: few, true, explained alarms within a budget of false ones."""

from .core import LEARN_DAYS, MACHINE, Machine, MachineState, machine_of

__all__ = ["LEARN_DAYS", "MACHINE", "Machine", "MachineState", "machine_of"]
