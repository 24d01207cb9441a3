"""Checks what the manifest says of metrics: their limits, and the detectors that look at several of them together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fleet_iot.generator.manifest.model_errors import Draft, Fault
from fleet_iot.generator.manifest.models import FleetManifest, Metric

ITEM_MAXIMUM = 400 * 1024
"""Bytes: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""
OUTBOX_ALLOWANCE = 140 * 1_000
"""Bytes of a device's item for a hundred notifications that were not sent yet, and for the rest of it."""
STATE_PER_METRIC = {"context": 800, "seasonal": 800, "correlation": 130}
"""Bytes of a packed detector of one metric with a name of 64 characters, at most; tests hold it to the processor's."""
STATE_OF_OTHERS = 250
STATE_PER_PAIR = 11
"""Bytes of a number of the matrix that `correlation` keeps of its metrics: nine, and more once compressed fast."""


def state_bytes(metrics: Iterable[Metric]) -> int:
    """The most that the packed detectors of a device with these metrics take in its item."""
    detectors = [metric.detector for metric in metrics]
    of_each = sum(STATE_PER_METRIC.get(detector, STATE_OF_OTHERS) for detector in detectors)
    return of_each + STATE_PER_PAIR * detectors.count("correlation") ** 2


def detectors_fit(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """What the detectors of one device know fits into its item in DynamoDB, which takes 400 kB."""
    room = ITEM_MAXIMUM - OUTBOX_ALLOWANCE
    for type_id, device_type in manifest.device_types.items():
        metrics = tuple(device_type.metrics.values())
        size = state_bytes(metrics)
        if size <= room:
            continue
        paired = sum(metric.detector == "correlation" for metric in metrics)
        others = [metric for metric in metrics if metric.detector != "correlation"]
        left = room - state_bytes(others)
        most = max(n for n in range(paired) if n * (STATE_PER_METRIC["correlation"] + STATE_PER_PAIR * n) <= left)
        yield Fault(
            path=("device_types", type_id, "metrics"),
            message=f"{paired} metrics of `{type_id}` have `detector: correlation`, which keeps a number for each pair "
            f"of them: a device's detectors take up to {size:,} bytes, and its item has room for {room:,}",
            hint=f"give it to at most {most} of them, those that move together, or make two device types of this one",
            is_key=True,
        )


def metric_limits(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """A metric has a limit, and its limits leave room between them."""
    for type_id, device_type in manifest.device_types.items():
        for name, metric in device_type.metrics.items():
            path = ("device_types", type_id, "metrics", name)
            if metric.min is None and metric.max is None:
                yield Fault(path=path, message=f"`{name}` needs `min` or `max`, or both", is_key=True)
            elif metric.min is not None and metric.max is not None and metric.min >= metric.max:
                message = f"`min` {metric.min:g} is not below `max` {metric.max:g}: every reading would be an anomaly"
                yield Fault(path=(*path, "min"), message=message)


def correlated_metrics(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """A device type that has a metric with the detector correlation has another one."""
    for type_id, device_type in manifest.device_types.items():
        named = [name for name, metric in device_type.metrics.items() if metric.detector == "correlation"]
        if len(named) == 1:
            yield Fault(
                path=("device_types", type_id, "metrics", named[0]),
                message=f"`{named[0]}` is the only metric of `{type_id}` with `detector: correlation`",
                hint="give it to the metrics that move together with it as well, or choose another detector",
                is_key=True,
            )
