"""Anomaly detection: static limits and the adaptive context detector, with state that survives in the device table."""

from .context import UNIVARIATE_THRESHOLD, univariate
from .device import DeviceDetectors, unpack_detectors
from .event import BEGIN, END, ESCALATED, Finding, severity_of
from .group import multichannel
from .limits import excursion_of, limits_finding
from .state import StateError

__all__ = [
    "BEGIN",
    "END",
    "ESCALATED",
    "UNIVARIATE_THRESHOLD",
    "DeviceDetectors",
    "Finding",
    "StateError",
    "excursion_of",
    "limits_finding",
    "multichannel",
    "severity_of",
    "univariate",
    "unpack_detectors",
]
