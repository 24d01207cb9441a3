"""Compares what a demo costs in AWS's units, counted at the emulator's door, with the prediction of `fleet cost`.

The prediction takes what the run was asked for: things, messages, sample intervals, message sizes, and what is
injected. Two figures are from the run itself, the numbers of batches and of sweeps: the pace of this machine decides
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from fleet_iot.generator.cost.measured import TOO_SHORT, Comparison, Run, compare, margins_of, units_of_run
from fleet_iot.generator.cost.terms import TERMS
from fleet_iot.generator.manifest.load import read_manifest
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.rates import expected_load, load_of
from fleet_iot.generator.text import table
from fleet_iot.lib.record.place import MANIFEST
from fleet_iot.lib.specs import DeviceTypeSpec
from fleet_iot.operations.local.aws import Count
from fleet_iot.operations.local.event_source import Redelivery
from fleet_iot.operations.project import Project
from fleet_iot.operations.rehearsal.signals import BURST, HISTORY_S, HISTORY_SAMPLES
from fleet_iot.operations.rehearsal.simulator import HISTORY_ARRAY, SimulationRequest, share_of
from fleet_iot.sensor_processor.planning.lane import lane_of

OF_THE_DEMO: Mapping[tuple[str, str], str] = {
    ("read_units", "Query"): "reread_units",
    ("s3_puts", "PUT quarantine"): "quarantine_puts",
    ("write_units", "UpdateItem plant"): "plant_writes",
    ("read_units", "GetItem plant"): "plant_reads",
}
"""Unit and operation that follow from what the demo injects (redelivery, poison, anomalies) → the unit that it is shown
as."""

PARTS: Mapping[tuple[str, str], str] = {
    ("write_units", "BatchWriteItem device bucket"): "item_writes",
    ("write_units", "PutItem device bucket"): "item_writes",
    ("write_units", "UpdateItem device"): "metadata_writes",
    ("write_units", "UpdateItem lane"): "pointer_writes",
}
"""Unit and operation → the part of the unit as which it is compared as well, so that few units are not lost in many."""

COMPARED: Mapping[str, str] = {
    "iot.message": "messages",
    "iot.rule": "rules",
    "iot.action": "actions",
    "kinesis.ingested_gb": "ingested_bytes",
    "kinesis.retrieved_gb": "retrieved_bytes",
    "lambda.request": "invocations",
    "dynamodb.write_unit": "write_units",
    "dynamodb.read_unit": "read_units",
    "s3.put": "s3_puts",
    "s3.get": "s3_gets",
    "sns.request": "notifications",
}
"""Price of a term → the unit that is counted."""

SHOWN: Mapping[str, str] = {
    "reread_units": "the demo delivers records again, and reads their minutes where memory lacks them",
    "revised_units": "minutes, hours and days again: messages reached the stream after these had closed",
    "quarantine_puts": "the demo sends poison; an object for each batch with any",
    "plant_writes": "about one a notification, and more while many machines are in a flood",
    "plant_reads": "one for each batch with notifications, and for each sweep",
    "invocations": "the pace of this machine decides it; the other lines take the batches as they came",
    "notifications": "machines that fail together are one message, detectors may share an anomaly, some have not ended",
}
"""Units that are shown and not judged, and why."""

_BY_TIME = "they grow by the clock and not by what a run sends"
NOT_SHOWN: Mapping[str, str] = {
    "iot.connection_minute": _BY_TIME,
    "iot.audited_device": "the emulator has no Device Defender",
    "kinesis.stream_hour": _BY_TIME,
    "kinesis.retained_gb_month": _BY_TIME,
    "lambda.gb_second": "seconds of this machine are not Lambda's",
    "xray.trace": "the emulator has no X-Ray",
    "dynamodb.gb_month": _BY_TIME,
    "dynamodb.pitr_gb_month": _BY_TIME,
    "s3.standard_gb_month": _BY_TIME,
    "s3.tiering_gb_month": _BY_TIME,
    "s3.monitored_object": _BY_TIME,
    "s3.glacier_gb_month": _BY_TIME,
    "s3.tiering_transition": _BY_TIME,
    "s3.glacier_transition": _BY_TIME,
    "cloudtrail.data_event": "the emulator writes no files of a trail",
    "cloudtrail.insight_event": "the emulator has no Insights",
    "cloudwatch.log_gb": "the function's lines go to a file",
    "cloudwatch.log_gb_month": _BY_TIME,
    "cloudwatch.metric": _BY_TIME,
    "cloudwatch.alarm_metric": _BY_TIME,
    "cloudwatch.dashboard": _BY_TIME,
    "kms.key": _BY_TIME,
    "kms.request": "services ask KMS within AWS, and not through its door",
}
"""Price of a term → why the demo cannot show its units."""


_NAMES = {COMPARED[term.price]: (term.service, term.what) for term in TERMS if term.price in COMPARED} | {
    "item_writes": ("DynamoDB", "of these, minutes, hours, days, anomalies"),
    "metadata_writes": ("DynamoDB", "of these, devices"),
    "pointer_writes": ("DynamoDB", "of these, lanes"),
    "revised_units": ("DynamoDB", "writes, of minutes again"),
    "reread_units": ("DynamoDB", "reads, of minutes again"),
    "plant_writes": ("DynamoDB", "writes, of notifications of plants"),
    "plant_reads": ("DynamoDB", "reads, of notifications of plants"),
    "quarantine_puts": ("S3", "puts, of quarantine"),
}
"""Unit → service and what is counted, in the order of the terms."""


def run_of(
    project: Project,
    simulation: SimulationRequest,
    *,
    rate: float,
    redelivery: Redelivery,
    invocations: int,
    sweeps: int,
    wall_s: float,
    anomalies: int,
) -> Run:
    """Return a run's parameters, of which the event source counted `invocations` and `sweeps`.

    Args:
        rate: Messages a second, of all things together.
        wall_s: Seconds from the first message until everything was processed.
        anomalies: Anomalies that were put into the readings.
    """
    manifest = read_manifest(project.root / MANIFEST, name=MANIFEST, environment=project.environment)
    chosen = simulation.choose(project)
    things = [thing for thing, _ in chosen]
    lanes = expected_load(manifest).lanes
    forgotten = sum(map(redelivery.forgets, range(invocations)))
    is_history = simulation.part == "history"
    return Run(
        load=load_of(
            _as_sent(manifest, [type_ for _, type_ in chosen]),
            [(thing.facility, thing.device_type, 1) for thing in things],
        ),
        samples=HISTORY_SAMPLES if is_history else share_of(rate, simulation.duration_s, len(things)),
        array=HISTORY_ARRAY if is_history else 1,
        bursts=HISTORY_SAMPLES // BURST if is_history else 0,
        bursts_s=HISTORY_S if is_history else 0,
        ends_ms=simulation.now_ms,
        wall_s=wall_s,
        batches=invocations - forgotten,
        redelivered=forgotten,
        sweeps=sweeps,
        lanes=len({lane_of(thing.name, lanes) for thing in things}),
        repeats=simulation.dose.repeats,
        poison=simulation.dose.poison,
        basic_ingest=simulation.basic_ingest,
        anomalies=anomalies,
    )


def _as_sent(manifest: FleetManifest, device_types: Iterable[DeviceTypeSpec]) -> FleetManifest:
    """Return the manifest with device types as they are played: their intervals, and some of the metrics."""
    return manifest.model_copy(
        update={
            "device_types": manifest.device_types
            | {
                each.id: manifest.device_types[each.id].model_copy(
                    update={
                        "sample_interval_s": each.sample_interval_s,
                        "metrics": {
                            metric.name: manifest.device_types[each.id].metrics[metric.name] for metric in each.metrics
                        },
                    }
                )
                for each in device_types
            }
        }
    )


def compare_units(
    runs: Sequence[Run],
    before: Iterable[Count],
    after: Iterable[Count],
    *,
    revised_units: int,
    duration_s: float,
    redelivery: Redelivery,
) -> tuple[Comparison, ...]:
    """Compare what was predicted of runs with what was counted between two moments.

    Args:
        runs: One after the other, the devices of the last of which publish for `duration_s`.
        before: Counts of the emulator when the run began.
        after: Counts when everything was processed.
        revised_units: Write units of minutes, hours and days after the first revision of each.
        duration_s: Seconds for which the devices publish.
        redelivery: The answers that got lost.
    """
    measured: Counter[str] = Counter()
    for sign, counts in ((1, after), (-1, before)):
        for each in counts:
            unit = OF_THE_DEMO.get((each.unit, each.operation), each.unit)
            for name in {unit, PARTS.get((each.unit, each.operation), unit)}:
                measured[name] += sign * each.amount  # type: ignore[assignment]  # half read units
    measured["write_units"] -= revised_units
    measured["item_writes"] -= revised_units
    measured["revised_units"] = revised_units
    measured["invocations"] = sum(run.batches + run.redelivered for run in runs)
    live = runs[-1]
    windows = duration_s / live.load.window_s + 1
    ordinals = (ordinal for ordinal in count() if not redelivery.forgets(ordinal))
    expected: Counter[str] = Counter()
    margins: Counter[str] = Counter()
    for run in runs:
        expected.update(units_of_run(run))
        margins.update(margins_of(run))
    expected["invocations"] = next(n for i, n in enumerate(ordinals, 1) if i >= windows) + 1
    expected["revised_units"] = 0
    expected["plant_reads"] = 0
    expected["plant_writes"] = expected["notifications"]
    order = list(_NAMES)
    return tuple(
        sorted(compare(expected, measured, margins=margins, why_not=SHOWN), key=lambda each: order.index(each.unit))
    )


def as_table(comparisons: Iterable[Comparison]) -> str:
    """Return the comparison for people, with what it cannot show."""
    rows: list[tuple[str, ...]] = [("service", "what", "unit", "predicted", "measured", "deviation", "")]
    for each in comparisons:
        deviation = f"{each.deviation:+.1%}" if each.expected else "-"
        numbers = (f"{each.expected:,.0f}", f"{each.measured:,.0f}", deviation)
        short = "too short to judge" if each.why_not == TOO_SHORT else "not judged"
        rows.append((*_NAMES[each.unit], each.unit, *numbers, short if each.why_not else ""))
    notes = [f"{each.unit}: not judged: {each.why_not}" for each in comparisons if each.why_not]
    missing: dict[str, list[str]] = {}
    for term in TERMS:
        if why := NOT_SHOWN.get(term.price):
            missing.setdefault(why, []).append(f"{term.service} {term.what}")
    notes += [f"not shown, as {why}: {', '.join(what)}" for why, what in missing.items()]
    return "\n".join(f"  {line}" for line in [*table(rows, "<<<>>><"), *notes])
