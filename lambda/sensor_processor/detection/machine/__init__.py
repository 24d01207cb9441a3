"""Watches a whole machine: few, true, explained alarms within a budget of false ones."""

from .core import MACHINE, Machine, MachineState, machine_of

__all__ = ["MACHINE", "Machine", "MachineState", "machine_of"]
