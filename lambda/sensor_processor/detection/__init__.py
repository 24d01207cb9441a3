"""Detects anomalies: limits and adaptive detectors, their events, and state that a lane stores; no I/O."""

from .context import UNIVARIATE_THRESHOLD, univariate
from .device import DeviceDetectors, detectors_after, unpack_detectors
from .event import BEGIN, CRITICAL, END, ESCALATED, WARNING, Finding
from .factory import machine
from .group import multichannel
from .limits import excursion_of, limits_finding
from .machine import LEARN_DAYS, MACHINE
from .state import StateError

__all__ = [
    "BEGIN",
    "CRITICAL",
    "END",
    "ESCALATED",
    "LEARN_DAYS",
    "MACHINE",
    "UNIVARIATE_THRESHOLD",
    "WARNING",
    "DeviceDetectors",
    "Finding",
    "StateError",
    "detectors_after",
    "excursion_of",
    "limits_finding",
    "machine",
    "multichannel",
    "univariate",
    "unpack_detectors",
]
