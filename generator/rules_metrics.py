"""Checks what the manifest says of metrics: their limits, and the detectors that look at several of them together."""

from __future__ import annotations

from collections.abc import Iterator

from generator.manifest import FleetManifest
from generator.shape import Draft, Fault


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
