"""Run the demo: the whole platform on the local AWS, end to end, with every figure counted at its own place."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

from fleet_iot.generator.cost.measured import Comparison, Run
from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError, OutcomeError
from fleet_iot.generator.text import counted, table
from fleet_iot.lib.names import FUNCTION
from fleet_iot.lib.specs import suffixed
from fleet_iot.operations.aws import local_aws
from fleet_iot.operations.local import deployment, emulator, event_source
from fleet_iot.operations.local.aws import FACTS, LocalAws, applied_stacks, count_resources, load, read_statistics
from fleet_iot.operations.local.deployment import wait_until_drained
from fleet_iot.operations.local.dynamodb_units import item_size, write_units
from fleet_iot.operations.local.event_source import Redelivery
from fleet_iot.operations.pki.csr import create_missing, csr_path
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry import runner
from fleet_iot.operations.registry.device import find_thing, retire
from fleet_iot.operations.registry.preparation import Request, own_requests
from fleet_iot.operations.registry.target import target_of
from fleet_iot.operations.rehearsal.simulator import (
    Dose,
    Outcome,
    SimulationRequest,
    choose_things,
    read_truth,
    run_request,
)
from fleet_iot.operations.rehearsal.units import as_table, compare_units, run_of
from fleet_iot.operations.telemetry.archive import (
    archived_records,
    compact,
    compacted_objects,
    object_keys,
    stored_lines,
)
from fleet_iot.operations.telemetry.redrive import FunctionError

# Reconciliation of what the devices sent with what arrived: lost, duplicated, sums, anomalies found and false.
#
# Pure, and shares no code with the sensor processor: a bug there cannot hide itself here.

_MINUTE_MS = 60_000
# The slow detector judges means of 12 readings, so it may report up to 12 readings after an anomaly's last.
_GRACE_SAMPLES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteItem:
    """One minute of a thing in DynamoDB; `minute` is minutes since the epoch."""

    thing: str
    minute: int
    messages: int
    sums: Mapping[str, Decimal]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyItem:
    """An anomaly in DynamoDB; `began_ms` is when its event began, by the device's clock."""

    thing: str
    metric: str
    detector: str
    began_ms: int


@dataclass(slots=True)
class Truth:
    """The numbers that the devices sent and the broker acknowledged, by thing, minute and metric."""

    readings: int = 0
    poison: int = 0
    messages: Counter[tuple[str, int]] = field(default_factory=Counter)
    sums: defaultdict[tuple[str, int, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    counts: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    sent: set[tuple[str, int, int]] = field(default_factory=set)
    anomalies: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The result. `lost` counts readings that DynamoDB or the archive lacks; `duplicated` those that DynamoDB counts
    more often than they were sent, and those in the archive that no device sent.

    Of the anomalies, `former` are those for and of detectors without a budget of false alarms. `found_after_min` are
    minutes of machine time from the first to the slowest fault of a history that was found.
    """

    lost: int
    duplicated: int
    wrong_sums: int
    anomalies_injected: int
    anomalies_within_limits: int
    anomalies_detected: int
    anomalies_false: int
    former_injected: int
    former_detected: int
    former_false: int
    faults_injected: int
    faults_detected: int
    found_after_min: tuple[int, ...]


def gather(lines: Iterable[Mapping[str, Any]]) -> Truth:
    """Add the truth file's lines up by thing, minute and metric."""
    truth = Truth()
    for line in lines:
        match line["line"]:
            case "anomaly":
                truth.anomalies.append(dict(line))
            case "poison":
                truth.poison += 1
            case "reading":
                thing, minute = line["thing"], line["time"] // _MINUTE_MS
                truth.readings += 1
                truth.messages[thing, minute] += 1
                truth.sent.add((thing, line["time"], line["sequence"]))
                for metric, value in line["metrics"].items():
                    truth.sums[thing, minute, metric] += value
                    truth.counts[thing, minute, metric] += 1
    return truth


def compare(
    truth: Truth,
    *,
    minutes: Iterable[MinuteItem],
    anomalies: Iterable[AnomalyItem],
    archived: Counter[tuple[str, int, int]],
) -> Difference:
    """Compare what was sent with what is stored.

    Args:
        truth: What was sent.
        minutes: The minute items of DynamoDB.
        anomalies: The anomaly items of DynamoDB.
        archived: The archive's distinct stream records, counted by (thing, device time, sequence). A message that a
            device, or MQTT at QoS 1, sent again is a record of its own there and no duplicate; DynamoDB must count it
            once.
    """
    found = list(minutes)
    stored = Counter({(item.thing, item.minute): item.messages for item in found})
    deficit, excess = truth.messages - stored, stored - truth.messages
    wrong_sums = sum(
        1
        for item in found
        for metric, total in item.sums.items()
        if total != truth.sums.get((item.thing, item.minute, metric))
        or item.counts[metric] != truth.counts[item.thing, item.minute, metric]
    )
    unarchived = sum(1 for key in truth.sent if key not in archived)
    surplus = sum(1 for key in archived if key not in truth.sent)
    hits, false = _match(truth.anomalies, list(anomalies))
    kinds = [_kind(anomaly["detector"]) for anomaly in truth.anomalies]
    found_kinds = Counter(kinds[number] for number in hits)
    delays = sorted(hits[number] for number, kind in enumerate(kinds) if kind == MACHINE and number in hits)
    return Difference(
        lost=deficit.total() + unarchived,
        duplicated=excess.total() + surplus,
        wrong_sums=wrong_sums,
        anomalies_injected=len(truth.anomalies),
        anomalies_within_limits=sum(1 for anomaly in truth.anomalies if anomaly["within_limits"]),
        anomalies_detected=len(hits),
        anomalies_false=len(false),
        former_injected=kinds.count(FORMER),
        former_detected=found_kinds[FORMER],
        former_false=sum(1 for item in false if _kind(item.detector) == FORMER),
        faults_injected=kinds.count(MACHINE),
        faults_detected=found_kinds[MACHINE],
        found_after_min=tuple(round(delay / _MINUTE_MS) for delay in delays),
    )


LIMITS, MACHINE, FORMER = "limits", "machine", "former"


def _kind(detector: str) -> str:
    """Return the kind of a detector: all but limits and machine have no budget of false alarms."""
    return detector if detector in (LIMITS, MACHINE) else FORMER


def _match(injected: list[dict[str, Any]], found: list[AnomalyItem]) -> tuple[dict[int, int], list[AnomalyItem]]:
    """Match events with injected anomalies.

    An event of a machine counts for a fault of any of its metrics.

    Returns:
        The number of each anomaly that was found, with the ms until then, and the events that fall into none.
    """
    by_series: defaultdict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for number, anomaly in enumerate(injected):
        until = anomaly["last_ms"] + _GRACE_SAMPLES * anomaly["interval_ms"]
        series = MACHINE if anomaly["detector"] == MACHINE else anomaly["metric"]
        by_series[anomaly["thing"], series].append((anomaly["first_ms"], until, number))
    hits: dict[int, int] = {}
    false = []
    for item in found:
        series = MACHINE if item.detector == MACHINE else item.metric
        spans = [span for span in by_series[item.thing, series] if span[0] <= item.began_ms <= span[1]]
        for first, _, number in spans:
            hits[number] = min(hits.get(number, item.began_ms - first), item.began_ms - first)
        if not spans:
            false.append(item)
    return hits, false


# Count what the platform stores, in AWS IoT, DynamoDB, S3 and files, and compare it with the truth file.

_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Counts of AWS IoT: the things of the environment, and the distinct active certificates attached to them."""

    things: int
    certificates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Counts of the archive bucket: distinct stream records, the readings in them, quarantined ones, rule errors, and
    the Parquet objects that count."""

    lines: int
    objects: int
    readings: Counter[tuple[str, int, int]]
    quarantined: int
    rule_errors: int


def count_registry(iot: Any, suffix: str) -> Registry:
    """Count the things of this environment and the active certificates that are attached to them."""
    names = [
        thing["thingName"]
        for page in iot.get_paginator("list_things").paginate()
        for thing in page["things"]
        if thing["thingName"].endswith(f"-{suffix}")
    ]

    def active(name: str) -> list[str]:
        principals = iot.list_thing_principals(thingName=name)["principals"]
        described = [iot.describe_certificate(certificateId=arn.rpartition("/")[2]) for arn in principals]
        return [
            each["certificateDescription"]["certificateId"]
            for each in described
            if each["certificateDescription"]["status"] == "ACTIVE"
        ]

    with ThreadPoolExecutor(_THREADS) as pool:
        certificates = {identifier for found in pool.map(active, names) for identifier in found}
    return Registry(things=len(names), certificates=len(certificates))


PERIODS = ("minute", "hour", "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The readings table: the highest revision of each minute, anomalies, and the write units of later revisions."""

    minutes: list[MinuteItem]
    anomalies: list[AnomalyItem]
    revised_units: int


def read_readings(dynamodb: Any, table: str) -> Readings:
    """Read all anomaly items of the readings table, and the highest revision of each minute."""
    minutes: dict[tuple[str, str], tuple[str, MinuteItem]] = {}
    anomalies = []
    revised = 0
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for item in page["Items"]:
            thing, (kind, _, rest) = item["device"]["S"], item["bucket"]["S"].partition("#")
            if kind in PERIODS and "#" in rest:
                revised += write_units(item_size(item))
            if kind == "minute":
                metrics = {name: metric["M"] for name, metric in item["metrics"]["M"].items()}
                start, _, revision = rest.partition("#")
                found = MinuteItem(
                    thing=thing,
                    minute=_epoch_ms(start) // 60_000,
                    messages=int(item["messages"]["N"]),
                    sums={name: Decimal(metric["sum"]["N"]) for name, metric in metrics.items()},
                    counts={name: int(metric["count"]["N"]) for name, metric in metrics.items()},
                )
                if revision >= minutes.get((thing, start), ("", found))[0]:
                    minutes[thing, start] = revision, found
            elif kind == "anomaly":
                anomalies.append(
                    AnomalyItem(
                        thing=thing,
                        metric=item["metric"]["S"],
                        detector=item["detector"]["S"],
                        began_ms=_epoch_ms(item.get("began_at", item["time"])["S"]),
                    )
                )
    return Readings(minutes=[minute for _, minute in minutes.values()], anomalies=anomalies, revised_units=revised)


def read_archive(s3: Any, bucket: str) -> Archive:
    """Read the archive's records, each once however often its batch was delivered."""
    quarantined = {line["sequence_number"] for _, line in stored_lines(s3, bucket, "quarantine/")}
    errors = sum(1 for key in object_keys(s3, bucket, "iot-rule-errors/") if not key.endswith("/"))
    readings: Counter[tuple[str, int, int]] = Counter()
    lines = 0
    for line in archived_records(s3, bucket):
        lines += 1
        payload = json.loads(base64.b64decode(line["raw"]))
        for reading in payload if isinstance(payload, list) else [payload]:
            readings[line["thing"], reading["time"], reading["sequence"]] += 1
    return Archive(
        lines=lines,
        objects=len(compacted_objects(s3, bucket)),
        readings=readings,
        quarantined=len(quarantined),
        rule_errors=errors,
    )


def count_items(dynamodb: Any, table: str) -> int:
    """Count the items of a table by a scan: DescribeTable's own count is hours old."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, Select="COUNT", ConsistentRead=True)
    return sum(page["Count"] for page in pages)


def _epoch_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


# The body may follow a real line break or one escaped in JSON. A bare header, as in this pattern, is no key.
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
    rb"(?:\s|\\r|\\n)*(?:[A-Za-z-]+: [^\n\\]*(?:\\n|\n))*(?:\s|\\r|\\n)*"
    rb"[A-Za-z0-9+/=]{16,}"
)


def holds_private_key(content: bytes) -> bool:
    """Return whether a private key is anywhere in `content`."""
    return _PRIVATE_KEY.search(content) is not None


def files_with_private_keys(paths: Iterable[Path]) -> list[Path]:
    """Find the files among `paths`, folders with all that is in them, that contain a private key."""
    found = []
    for path in paths:
        files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        found += [file for file in files if not file.is_symlink() and holds_private_key(file.read_bytes())]
    return sorted(found)


def tracked_files(root: Path) -> list[Path]:
    """List the files that git tracks in the project; none where the project is no git checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    return [root / name for name in listed.stdout.decode().split("\0") if name and (root / name).is_file()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Counts of AWS IoT, DynamoDB and S3, and how they differ from the truth file."""

    registry: Registry
    processed: int
    revised_units: int
    devices: int
    archive: Archive
    difference: Difference


def measure(project: Project, local: LocalAws, *, truth_files: Iterable[Path]) -> Measurement:
    """Count what is stored, in the tables and the bucket that the deployed function is configured with."""
    suffix = project.environment_suffix
    function = local.client("lambda").get_function_configuration(FunctionName=suffixed(FUNCTION, suffix))
    deployed = function["Environment"]["Variables"]
    dynamodb = local.client("dynamodb")
    readings = read_readings(dynamodb, deployed["READINGS_TABLE"])
    archive = read_archive(local.client("s3"), deployed["ARCHIVE_BUCKET"])
    return Measurement(
        registry=count_registry(local.client("iot"), suffix),
        processed=sum(item.messages for item in readings.minutes),
        revised_units=readings.revised_units,
        devices=count_items(dynamodb, deployed["DEVICES_TABLE"]),
        archive=archive,
        difference=compare(
            gather(chain.from_iterable(map(read_truth, truth_files))),
            minutes=readings.minutes,
            anomalies=readings.anomalies,
            archived=archive.readings,
        ),
    )


def exposed_private_keys(project: Project, local: LocalAws) -> list[str]:
    """Find tracked files, synthesised output and states that contain a private key."""
    places = [*tracked_files(project.root), local.output]
    return [str(path) for path in files_with_private_keys(places)]


# Run the demo step by step, from the manifest to a verdict, and report what it measured.

DETECTED_SHARE = 0.9
READINGS_A_FALSE_ANOMALY = 500
"""Share of the anomalies that detectors without a budget must find, and fewest readings for each false one of theirs.
Limits and machine must find all, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one demo run; docs/demo.md says where each is counted."""

    facilities: int
    things: int
    things_published: int
    certificates: int
    resources_applied: int
    readings_published: int
    readings_archived: int
    records_archived: int
    raw_objects: int
    parquet_objects: int
    records_compacted: int
    readings_processed: int
    poison_injected: int
    quarantined: int
    redelivered: int
    repeats_published: int
    anomalies_injected: int
    anomalies_within_limits: int
    anomalies_detected: int
    anomalies_false: int
    former_injected: int
    former_detected: int
    former_false: int
    histories: int
    faults_injected: int
    faults_detected: int
    found_after_min: tuple[int, ...]
    lost: int
    duplicated: int
    wrong_sums: int
    rule_errors: int
    devices_known: int
    resources_left: int
    private_keys_found: list[str]
    units: tuple[Comparison, ...]
    seconds_by_step: dict[str, float]


def faults(report: Report) -> list[str]:
    """Return what is wrong with the figures, a sentence each; empty for a clean run."""
    good = report.readings_published - report.poison_injected
    rules = [
        (
            report.things == report.certificates > 0,
            f"{report.things} things but {report.certificates} active certificates",
        ),
        (
            report.devices_known == report.things_published > 0,
            f"{report.things_published} things published but the device table knows {report.devices_known}",
        ),
        (report.readings_processed == good, f"{report.readings_processed} readings processed of {good} good ones"),
        (report.readings_archived == good, f"{report.readings_archived} readings archived of {good} good ones"),
        (
            report.records_compacted == report.records_archived,
            f"{report.records_compacted} records compacted of {report.records_archived} archived",
        ),
        (report.lost == 0, f"{report.lost} readings lost"),
        (report.duplicated == 0, f"{report.duplicated} readings duplicated"),
        (report.wrong_sums == 0, f"{report.wrong_sums} sums differ from what was sent"),
        (report.redelivered > 0, "no record was delivered twice, so nothing was proven about it"),
        (
            report.quarantined == report.poison_injected > 0,
            f"{report.quarantined} messages in quarantine for {report.poison_injected} poison messages sent",
        ),
        (report.rule_errors == 0, f"{report.rule_errors} messages went to the topic rules' error action"),
        (report.anomalies_injected > 0, "no anomaly was injected, so nothing was proven about any"),
        (
            report.anomalies_detected - report.former_detected == report.anomalies_injected - report.former_injected
            and report.former_detected >= DETECTED_SHARE * report.former_injected,
            f"{report.anomalies_detected} of {report.anomalies_injected} anomalies detected",
        ),
        (
            report.anomalies_false == report.former_false and report.former_false * READINGS_A_FALSE_ANOMALY <= good,
            f"{report.anomalies_false} false anomalies in {good} good readings",
        ),
        (
            report.faults_injected > 0 or not report.histories,
            f"{report.histories} machines sent a history, and none had a fault",
        ),
        (report.resources_left == 0, f"{report.resources_left} resources are left after destroy"),
        (not report.private_keys_found, f"private keys found in {', '.join(report.private_keys_found)}"),
        *((not each.is_off, f"not as `fleet cost` predicts: {each}") for each in report.units),
    ]
    return [sentence for is_right, sentence in rules if not is_right]


def summary(report: Report) -> str:
    """Format the report for people, in lines."""
    rows = [
        (
            "Fleet",
            f"{counted(report.facilities, 'facility')}, {counted(report.things, 'thing')}, "
            f"{counted(report.certificates, 'certificate')}",
        ),
        ("Platform", f"{report.resources_applied} resources applied by Terraform, {report.resources_left} left"),
        (
            "Published",
            f"{report.readings_published} readings by {report.things_published} things over mutual TLS, "
            f"{report.poison_injected} of them poison, {report.repeats_published} sent again",
        ),
        ("Processed", f"{report.readings_processed} readings in DynamoDB, {report.readings_archived} in S3"),
        ("Archive", f"{report.raw_objects} raw objects compacted into {report.parquet_objects} Parquet objects"),
        ("Quarantine", f"{report.quarantined} messages, each with its reason"),
        ("Delivered again", f"{report.redelivered} records: {report.lost} lost, {report.duplicated} duplicated"),
        (
            "Anomalies",
            f"{report.anomalies_detected} of {report.anomalies_injected} detected "
            f"({report.anomalies_within_limits} stayed within their limits), {report.anomalies_false} false",
        ),
        ("Machines", _machines(report)),
        (
            "Private keys",
            "none in repository, synthesised output or state" if not report.private_keys_found else "FOUND",
        ),
        ("Seconds", ", ".join(f"{step} {seconds:.0f}" for step, seconds in report.seconds_by_step.items())),
    ]
    lines = "\n".join(f"  {line}" for line in table(rows, "<<"))
    costs = "What it cost in AWS's units, as `fleet cost` predicts it and as it was counted:"
    return f"{lines}\n\n{costs}\n\n{as_table(report.units)}"


def _machines(report: Report) -> str:
    """Describe what was found in histories."""
    if not report.histories:
        return "no history was sent: no metric has `detector: machine`, or there is one thing only"
    found = report.found_after_min
    after = f", after {found[0]} to {found[-1]} min of machine time" if found else ""
    return (
        f"{counted(report.histories, 'machine')} sent a week of history and a day with "
        f"{counted(report.faults_injected, 'fault')}: {report.faults_detected} found{after}"
    )


HISTORY_SECONDS = 10.0
"""Seconds for which the things publish their histories."""
DOSE = Dose(anomalies=0.8, poison=0.01, repeats=0.01)
NO_DOSE = Dose(anomalies=0, poison=0, repeats=0)
REDELIVERED_SHARE = 0.3
BASIC_INGEST_SHARE = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """The size of a demo: things that publish, messages a second in all, seconds, and the seed."""

    folder: Path
    things: int
    rate: float
    duration_s: float
    seed: int


@dataclass(slots=True)
class Clock:
    """Time the steps, and announce each when it starts."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Time one step."""
        self.say(f"==> {name}: {what}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def run_demo(
    request: DemoRequest,
    *,
    generate: Callable[[], Project],
    say: Say,
    on_progress: Callable[[int, int], None],
) -> Report:
    """Run every step and report what was measured; everything that was started is stopped, whatever happens.

    Args:
        request: The size of the demo.
        generate: Generates the record and loads the project.
        say: Called with each step.
        on_progress: Called with messages sent and planned.

    Raises:
        FleetError: A step failed.
    """
    clock = Clock(say)
    folder = request.folder
    _make_room(folder)
    with clock.step("generate", "the approved record from fleet.yaml"):
        project = generate()
    _require_things(project)
    with clock.step("keys", "throw-away keys and CSRs for every thing"):
        store = _make_keys(project, folder)
    try:
        with clock.step("up", "a local AWS"):
            local = emulator.start(folder=folder / "local", region=project.fleet.region)
        with clock.step("apply", "synthesis and Terraform, every stack"):
            deployment.apply(
                local,
                root=project.root,
                environment=project.environment,
                identities=folder / "identities",
                redeliver=REDELIVERED_SHARE,
                seed=request.seed,
                say=say,
            )
        if onboarded := _in_bulk(project, request):
            with clock.step("onboard", f"{_count(onboarded)} of plants that register in bulk"):
                _onboard(project, local, folder, onboarded)
        redelivery = Redelivery(probability=REDELIVERED_SHARE, seed=request.seed)
        before = local.units()
        played = [
            _play(simulation, project, local, store=store, redelivery=redelivery, clock=clock, on_progress=on_progress)
            for simulation in _simulations(project, request)
        ]
        counted_units = local.units()
        with clock.step("compact", "the raw archive into Parquet objects"):
            compacted = _compact(project, local)
        with clock.step("verify", "published readings against DynamoDB and S3"):
            measured = measure(project, local, truth_files=[each.simulation.truth for each in played])
            exposed = exposed_private_keys(project, local)
            units = compare_units(
                _runs(project, request, played, difference=measured.difference),
                before,
                counted_units,
                revised_units=measured.revised_units,
                duration_s=request.duration_s,
                redelivery=redelivery,
            )
            applied = _resources(local)
        if onboarded:
            with clock.step("retire", f"{_count(onboarded)} that were onboarded"):
                _retire(project, local, onboarded)
        with clock.step("destroy", "every stack"):
            deployment.destroy(local, say=say)
            left = _resources(local)
        with clock.step("down", "the local AWS"):
            _take_down(folder)
    except FleetError as fault:
        # The logs are moved when the local AWS is stopped.
        if fault.hint:
            fault.hint = fault.hint.replace(str(folder / "local" / "logs"), str(folder / "logs"))
        raise
    finally:
        _take_down(folder)
    return _report(
        project,
        played=played,
        measured=measured,
        compacted=compacted,
        resources=(applied, left),
        exposed=exposed,
        units=units,
        seconds=clock.seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A simulation, its outcome, and what the event source did meanwhile."""

    simulation: SimulationRequest
    outcome: Outcome
    redelivery: Redelivery
    invocations: int
    sweeps: int
    redelivered: int
    wall_s: float


def _play(
    simulation: SimulationRequest,
    project: Project,
    local: LocalAws,
    *,
    store: KeyStore,
    redelivery: Redelivery,
    clock: Clock,
    on_progress: Callable[[int, int], None],
) -> Played:
    """Publish, and wait until everything is processed."""
    source = read_statistics(local.folder / event_source.STATISTICS)
    began, things = time.monotonic(), counted(len(simulation.choose(project)), "thing")
    is_history = simulation.part == "history"
    name, what = ("history", "send a week and a day of readings") if is_history else ("simulate", "publish")
    calm = local.folder / event_source.CALM
    if is_history:  # to process a week again would take longer than all else
        calm.touch()
    with clock.step(name, f"{things} {what} over mutual TLS"):
        outcome = run_request(project, simulation, aws=local_aws(local.folder), store=store, on_progress=on_progress)
        _refuse_failed(outcome)
    with clock.step("learn" if is_history else "drain", "until everything is processed"):
        drained = wait_until_drained(local)
    calm.unlink(missing_ok=True)
    return Played(
        simulation=simulation,
        outcome=outcome,
        redelivery=Redelivery() if is_history else redelivery,
        invocations=drained.invocations - source["totals"]["invocations"],
        sweeps=drained.sweeps - source["sweeps"],
        redelivered=drained.redelivered,
        wall_s=time.monotonic() - began,
    )


def _runs(
    project: Project,
    request: DemoRequest,
    played: Iterable[Played],
    *,
    difference: Difference,
) -> list[Run]:
    """Return the runs that were played, for the prediction of their units."""
    return [
        run_of(
            project,
            each.simulation,
            rate=request.rate,
            redelivery=each.redelivery,
            invocations=each.invocations,
            sweeps=each.sweeps,
            wall_s=each.wall_s,
            anomalies=difference.faults_injected
            if each.simulation.part == "history"
            else difference.anomalies_injected - difference.faults_injected,
        )
        for each in played
    ]


def _compact(project: Project, local: LocalAws) -> dict[str, Any]:
    """Compact what was just archived, though neither hour nor day is over."""
    try:
        return compact(local_aws(local.folder), project.names.compactor, is_early=True)
    except FunctionError as error:
        raise EnvironmentFault(f"the compaction failed: {error}", hint=f"look into {local.logs}") from None


def _require_things(project: Project) -> None:
    """Raise OutcomeError where the fleet has no thing, so that none could publish."""
    if not any(facility.thing_count for facility in project.facilities):
        raise OutcomeError("no facility has things, so that none can publish", hint="see `things:` in fleet.yaml")


def _in_bulk(project: Project, request: DemoRequest) -> dict[str, list[str]]:
    """Return the things that publish and that Terraform does not register, by facility."""
    bulk = {facility.id for facility in project.facilities if facility.registration == "bulk"}
    found: dict[str, list[str]] = {}
    for thing, _ in choose_things(project, project.facilities, request.things):
        if thing.facility in bulk:
            found.setdefault(thing.facility, []).append(thing.name)
    return found


def _count(things: Mapping[str, list[str]]) -> str:
    return counted(sum(map(len, things.values())), "device")


def _onboard(project: Project, local: LocalAws, folder: Path, things: Mapping[str, list[str]]) -> None:
    """Register things, by facility, each under a certificate of its CSR, as `fleet onboard` does."""
    target = target_of(project, local_aws(local.folder))
    for id_, names in things.items():
        path = folder / "onboarding" / f"{id_}.jsonl"
        path.parent.mkdir(exist_ok=True)
        requests = csr_path(folder / "identities", project.environment_suffix, id_).read_text("utf-8").splitlines(True)
        path.write_text("".join(line for line in requests if json.loads(line)["thing"] in names), "utf-8")
        request = Request(
            facility=project.facility(id_),
            source=own_requests(path, id_),
            policy_on=target.policy_on or "group",
            reason="demo",
        )
        with (
            runner.facility_lock(target.journal, id_),
            runner.opened_journal(project, target, local=local.folder) as journal,
        ):
            run = runner.start(project, request, target, journal).run
            done = runner.perform(project, run, target=target, journal=journal, on_progress=lambda meter: None)
        if done.onboarded != len(names):
            raise EnvironmentFault(
                f"{done.onboarded} of {counted(len(names), 'device')} of {id_} were onboarded",
                hint=f"why: reasons.jsonl in {project.root / (done.failures or '')}",
            )


def _retire(project: Project, local: LocalAws, things: Mapping[str, list[str]]) -> None:
    """Take onboarded devices out again: AWS deletes no policy that is attached to a certificate."""
    target = target_of(project, local_aws(local.folder))
    with runner.opened_journal(project, target, local=local.folder) as journal:
        for id_, names in things.items():
            work = runner.work_of(
                project, target, journal, facility=project.facility(id_), is_staged=False, policy_on="certificate"
            )
            try:
                with ThreadPoolExecutor(_THREADS) as pool:
                    found = [find_thing(project, journal, name) for name in names]
                    list(pool.map(lambda device, work=work: retire(work, device, reason="demo"), found))
            finally:
                work.calls.pacer.close()


def _refuse_failed(outcome: Outcome) -> None:
    for name, reason in outcome.failed.items():
        raise EnvironmentFault(
            f"{len(outcome.failed)} things did not publish all: {name}: {reason}", hint="see the logs"
        )


def _make_room(folder: Path) -> None:
    """Remove what an earlier demo left, with a local AWS that it could not stop."""
    _take_down(folder)
    for name in ("keys", "identities", "onboarding", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("history.jsonl", "truth.jsonl", "report.json"):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Other users of the machine must not read keys, logs and states of the demo.
    folder.chmod(0o700)
    (folder / "logs").mkdir()


def _take_down(folder: Path) -> None:
    """Stop the demo's local AWS where one is left, and keep its logs, which messages refer to."""
    if not (folder / "local" / FACTS).exists():
        return
    local: LocalAws = load(folder / "local", is_to_stop=True)
    with suppress(OSError):
        shutil.copytree(local.logs, folder / "logs", dirs_exist_ok=True)
    emulator.stop(local)


def _resources(local: LocalAws) -> int:
    """Count the resources in Terraform's states, of all stacks together."""
    return sum(map(count_resources, applied_stacks(local)))


def _make_keys(project: Project, folder: Path) -> KeyStore:
    store = KeyStore(folder / "keys", secrets.token_urlsafe(32))
    for facility in project.facilities:
        create_missing(project, facility, store=store, folder=folder / "identities")
    return store


def _simulations(project: Project, request: DemoRequest) -> Iterator[SimulationRequest]:
    """Yield what is simulated, each with the time when it begins: histories, where there are any, and the rest live."""
    live = SimulationRequest(
        facilities=project.facilities,
        things=request.things,
        rate=request.rate,
        duration_s=request.duration_s,
        dose=DOSE,
        basic_ingest=BASIC_INGEST_SHARE,
        seed=request.seed,
        replay=None,
        columns={},
        truth=request.folder / "truth.jsonl",
        now_ms=int(time.time() * 1000),
        part="live",
    )
    history = replace(
        live, part="history", duration_s=HISTORY_SECONDS, truth=request.folder / "history.jsonl", dose=NO_DOSE
    )
    if history.choose(project):
        yield history
    yield replace(live, now_ms=int(time.time() * 1000))


def _report(
    project: Project,
    *,
    played: Sequence[Played],
    measured: Measurement,
    compacted: Mapping[str, Any],
    resources: tuple[int, int],
    exposed: list[str],
    units: tuple[Comparison, ...],
    seconds: dict[str, float],
) -> Report:
    applied, left = resources
    outcomes = [each.outcome for each in played]
    histories = [each.outcome.things for each in played if each.simulation.part == "history"]
    return Report(
        facilities=len(project.facilities),
        things=measured.registry.things,
        certificates=measured.registry.certificates,
        things_published=sum(each.things for each in outcomes),
        resources_applied=applied,
        readings_published=sum(each.readings + each.poison for each in outcomes),
        readings_archived=len(measured.archive.readings),
        records_archived=measured.archive.lines,
        readings_processed=measured.processed,
        poison_injected=sum(each.poison for each in outcomes),
        quarantined=measured.archive.quarantined,
        redelivered=played[-1].redelivered,
        raw_objects=compacted["raw_objects"],
        parquet_objects=measured.archive.objects,
        records_compacted=compacted["lines"] - compacted["duplicates"],
        repeats_published=sum(each.repeats for each in outcomes),
        histories=sum(histories),
        rule_errors=measured.archive.rule_errors,
        devices_known=measured.devices,
        resources_left=left,
        private_keys_found=exposed,
        units=units,
        seconds_by_step=seconds,
        **asdict(measured.difference),
    )
