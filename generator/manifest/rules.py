"""Checks what the models alone cannot: references within the manifest, and what AWS takes.

Each rule is a small function that yields the faults of one kind; it sees the parts of the manifest that have
their shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files

from fleet_iot.generator import naming
from fleet_iot.generator.aws.limits import ROLE_NAME, TEMPLATE_NAME
from fleet_iot.generator.aws.quotas import QUOTAS
from fleet_iot.generator.aws.regions import REGIONS
from fleet_iot.generator.manifest.capacity import expected_load
from fleet_iot.generator.manifest.model_errors import Draft, Fault, suggestion
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.own_rules import check_own_rules
from fleet_iot.generator.manifest.rules_alarms import silence_windows
from fleet_iot.generator.manifest.rules_history import history_thins_out
from fleet_iot.generator.manifest.rules_metrics import correlated_metrics, detectors_fit, metric_limits
from fleet_iot.generator.manifest.rules_text import plain_text, tag_count, tags, unique_tags
from fleet_iot.generator.manifest.rules_things import attributes, known_lines, line_numbers, unique_serials
from fleet_iot.generator.manifest.sources import DataPath

TERRAFORM_MAXIMUM = 2_500
"""Planning costs 35 ms of CPU a thing and more than a gigabyte of memory from here on."""
BUCKET_NAME_MAXIMUM = 63
BUCKET_NAME_ENDINGS = ("-s3alias", "--ol-s3", "--x-s3", "--table-s3")
"""What S3 keeps for itself: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
CHILD_GROUPS_MAXIMUM = 100
"""Direct children of a thing group: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""

Rule = Callable[[FleetManifest, Draft], Iterator[Fault]]


def check_rules(draft: Draft) -> Iterator[Fault]:
    """Every fault that any rule finds; none where the parts that all share could not be read."""
    if draft.manifest is not None:
        for rule in RULES:
            for fault in rule(draft.manifest, draft):
                yield replace(fault, rule=fault.rule or rule_id(rule))
        if draft.is_complete:
            yield from check_own_rules(draft.manifest)


def rule_id(rule: Rule) -> str:
    """What programs call a rule: the name of its function, with hyphens."""
    return rule.__name__.replace("_", "-")


def known_device_types(manifest: FleetManifest, draft: Draft) -> Iterator[Fault]:
    """A facility's things are of device types that the manifest describes."""
    for facility_id, facility in manifest.facilities.items():
        for type_id in facility.things:
            if type_id not in draft.device_types:
                hint = suggestion(type_id, draft.device_types) or "describe it in `device_types`"
                path = ("facilities", facility_id, "things", type_id)
                yield Fault(path=path, message=f"there is no device type `{type_id}`", hint=hint, is_key=True)


def known_region(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """The region is one where AWS IoT Core and Kinesis exist."""
    if manifest.region not in REGIONS:
        hint = suggestion(manifest.region, REGIONS) or f"known: {', '.join(REGIONS)}"
        yield Fault(path=("region",), message=f'there is no region "{manifest.region}" with AWS IoT Core', hint=hint)


def known_timezones(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Time zones are those of the IANA database."""
    zones: dict[DataPath, str] = {
        ("facilities", id_, "timezone"): facility.timezone for id_, facility in manifest.facilities.items()
    }
    if manifest.defaults.timezone is not None:
        zones[("defaults", "timezone")] = manifest.defaults.timezone
    for path, zone in zones.items():
        if zone not in timezones():
            hint = suggestion(zone, timezones()) or "use an IANA name, such as Asia/Singapore"
            yield Fault(path=path, message=f'there is no time zone "{zone}"', hint=hint)


def registration_size(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Terraform registers only as many things as it can plan in reasonable time."""
    for facility_id, facility in manifest.facilities.items():
        if facility.registration == "terraform" and facility.thing_count > TERRAFORM_MAXIMUM:
            yield Fault(
                path=("facilities", facility_id, "registration"),
                message=f"`terraform` registers at most {TERRAFORM_MAXIMUM:,} things, and `{facility_id}` has "
                f"{facility.thing_count:,}",
                hint="use `registration: bulk`",
            )


def unique_names(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """No two things, groups or policies get the same name: `a-b` with `c` and `a` with `b-c` would."""
    owners: dict[str, str] = {naming.facility_group(id_): f"facility `{id_}`" for id_ in manifest.facilities}
    for facility_id, facility in manifest.facilities.items():
        for type_id in facility.things:
            owner = f"`{type_id}` in `{facility_id}`"
            names = (naming.thing_group(facility_id, type_id), naming.serial_prefix(facility_id, type_id))
            for name in names:
                if name in owners:
                    path = ("facilities", facility_id, "things", type_id)
                    message = f"{owner} would get the same names as {owners[name]}: {name}"
                    yield Fault(path=path, message=message, hint="rename one of the two ids", is_key=True)
                    break
                owners[name] = owner


def template_names(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """The name of the provisioning template fits with its suffix."""
    for facility_id in manifest.facilities:
        name = f"{naming.provisioning_template(facility_id)}-{manifest.environment_suffix}"
        if excess := max(0, len(name) - TEMPLATE_NAME.max):
            message = f"the provisioning template's name {name} is longer than AWS's {TEMPLATE_NAME.max} characters"
            hint = f"shorten the facility's id or the environment_suffix by {excess}"
            yield Fault(path=("facilities", facility_id), message=message, hint=hint, is_key=True)


def bucket_names(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """The names of the buckets fit with account and suffix."""
    longest = max(naming.BUCKET_PURPOSES, key=len)
    name = naming.bucket(manifest.application, longest, manifest.account_id, manifest.environment_suffix)
    if excess := max(0, len(name) - BUCKET_NAME_MAXIMUM):
        message = f"the bucket's name {name} is longer than S3's {BUCKET_NAME_MAXIMUM} characters"
        yield Fault(path=("application",), message=message, hint=f"shorten `application` by {excess}")
    for ending in BUCKET_NAME_ENDINGS:
        if name.endswith(ending):
            message = f"the bucket's name {name} ends in {ending}, which S3 keeps for itself"
            yield Fault(path=("environment_suffix",), message=message, hint="choose another environment_suffix")


def role_names(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """The names of the IAM roles fit with application, region and suffix."""
    base = naming.account_wide(naming.LONGEST_ROLE, manifest.application, manifest.region)
    name = naming.suffixed(base, manifest.environment_suffix)
    if manifest.region in REGIONS and (excess := max(0, len(name) - ROLE_NAME.max)):
        message = f"the role's name {name} is longer than IAM's {ROLE_NAME.max} characters"
        hint = f"shorten `application` or `environment_suffix` by {excess}"
        yield Fault(path=("application",), message=message, hint=hint)


def group_sizes(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """A facility's group bears its device types as children."""
    for facility_id, facility in manifest.facilities.items():
        if len(facility.things) > CHILD_GROUPS_MAXIMUM:
            message = f"`{facility_id}` has {len(facility.things)} device types; AWS takes {CHILD_GROUPS_MAXIMUM}"
            hint = "split the facility"
            yield Fault(path=("facilities", facility_id, "things"), message=message, hint=hint, is_key=True)


def stream_capacity(manifest: FleetManifest, draft: Draft) -> Iterator[Fault]:
    """The stream takes the whole fleet's load from its first minute."""
    if not draft.is_complete:
        return
    load, start = expected_load(manifest), manifest.stream.start_capacity
    if load.records_per_second > start.records_per_second or load.megabytes_per_second > start.megabytes_per_second:
        is_given = "start_capacity" in manifest.stream.model_fields_set
        yield Fault(
            path=("stream", "start_capacity") if is_given else ("facilities",),
            message=f"the fleet sends {load.records_per_second:,.0f} records/s and "
            f"{load.megabytes_per_second:,.1f} MB/s, and the on-demand stream starts at "
            f"{start.records_per_second:,} records/s and {start.megabytes_per_second:g} MB/s",
            hint="lengthen sample_interval_s, or let AWS warm the stream and state that in stream.start_capacity",
            is_key=True,
        )


def account_quotas(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """A warning where one account's quotas do not suffice for all facilities, unless AWS has raised them."""
    plants = len(manifest.facilities)
    for quota in QUOTAS:
        needed = quota.of_platform + quota.of_each_plant * plants
        if quota.of_each_plant and needed > quota.most:
            yield Fault(
                path=("facilities",),
                message=f"{plants:,} facilities make {needed:,} {quota.what}; "
                f"an account has {quota.most:,} in a region",
                hint=f"have AWS raise the quota, or divide the facilities among accounts: {quota.page}",
                is_key=True,
                is_warning=True,
            )


@cache
def timezones() -> tuple[str, ...]:
    """The zones of the IANA database that name a place, and UTC; kept here, so that every machine agrees."""
    return tuple((files("fleet_iot.generator") / "timezones.txt").read_text("ascii").split())


RULES: tuple[Rule, ...] = (
    known_device_types,
    metric_limits,
    correlated_metrics,
    detectors_fit,
    known_region,
    known_timezones,
    registration_size,
    unique_names,
    template_names,
    bucket_names,
    role_names,
    group_sizes,
    known_lines,
    line_numbers,
    attributes,
    unique_serials,
    tags,
    tag_count,
    unique_tags,
    plain_text,
    stream_capacity,
    account_quotas,
    silence_windows,
    history_thins_out,
)
