"""Anomaly detection: static limits and the adaptive context detector, with state that survives in the device table."""

from .device import DeviceDetectors, unpack_detectors
from .event import BEGIN, END, ESCALATED, Finding
from .limits import excursion_of, limits_finding
from .severity import severity_of
from .shift import multichannel
from .state import StateError
from .threeviews import UNIVARIATE_THRESHOLD, univariate

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
