"""Anomaly detection: static limits and the adaptive context detector, with state that survives in the device table."""

from sensor_processor.detection.device import DeviceDetectors, unpack_detectors
from sensor_processor.detection.event import BEGIN, END, ESCALATED, Finding
from sensor_processor.detection.limits import excursion_of, limits_finding
from sensor_processor.detection.severity import severity_of
from sensor_processor.detection.shift import multichannel
from sensor_processor.detection.state import StateError
from sensor_processor.detection.threeviews import UNIVARIATE_THRESHOLD, univariate

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
