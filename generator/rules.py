"""Checks what the models alone cannot: references within the manifest, and what AWS takes.

Each rule is a small function that yields the faults of one kind; it sees the parts of the manifest that have
their shape.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files

from generator import naming
from generator.capacity import expected_load
from generator.manifest import FleetManifest
from generator.own_rules import check_own_rules
from generator.regions import REGIONS
from generator.shape import Draft, Fault, suggestion
from generator.sources import DataPath

TERRAFORM_MAXIMUM = 2_500
"""Planning costs 35 ms of CPU a thing and more than a gigabyte of memory from here on."""
TEMPLATE_NAME_MAXIMUM = 36
"""https://docs.aws.amazon.com/iot/latest/apireference/API_CreateProvisioningTemplate.html"""
BUCKET_NAME_MAXIMUM = 63
BUCKET_NAME_ENDINGS = ("-s3alias", "--ol-s3", "--x-s3", "--table-s3")
"""What S3 keeps for itself: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
CHILD_GROUPS_MAXIMUM = 100
"""Direct children of a thing group: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""
ATTRIBUTES_MAXIMUM = 50
"""Of a thing with a thing type; two are taken: facility and serial."""
RESERVED_ATTRIBUTES = ("facility", "serial")

_ATTRIBUTE_NAME = re.compile(r"[a-zA-Z0-9_.,@/:#-]{1,128}")
_ATTRIBUTE_VALUE = re.compile(r"[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}")
_PRINTABLE_ASCII = re.compile(r"[ -~]*")
_TAG_PUNCTUATION = frozenset("_.:/=+-@")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})

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


def known_region(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """The region is one where AWS IoT Core and Kinesis exist."""
    if manifest.region not in REGIONS:
        hint = suggestion(manifest.region, REGIONS) or f"known: {', '.join(REGIONS)}"
        yield Fault(path=("region",), message=f'there is no region "{manifest.region}" with AWS IoT Core', hint=hint)


def known_timezones(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Time zones are those of the IANA database."""
    for facility_id, facility in manifest.facilities.items():
        if facility.timezone not in timezones():
            hint = suggestion(facility.timezone, timezones()) or "use an IANA name, such as Asia/Singapore"
            path = ("facilities", facility_id, "timezone")
            yield Fault(path=path, message=f'there is no time zone "{facility.timezone}"', hint=hint)


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
        if excess := max(0, len(name) - TEMPLATE_NAME_MAXIMUM):
            message = f"the provisioning template's name {name} is longer than AWS's {TEMPLATE_NAME_MAXIMUM} characters"
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


def group_sizes(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """A facility's group bears its device types as children."""
    for facility_id, facility in manifest.facilities.items():
        if len(facility.things) > CHILD_GROUPS_MAXIMUM:
            message = f"`{facility_id}` has {len(facility.things)} device types; AWS takes {CHILD_GROUPS_MAXIMUM}"
            hint = "split the facility"
            yield Fault(path=("facilities", facility_id, "things"), message=message, hint=hint, is_key=True)


def attributes(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """AWS IoT attributes: a narrow alphabet without spaces, two names taken, fifty in all."""
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            path = ("facilities", facility_id, "things", type_id, "attributes")
            for name, value in group.attributes.items():
                yield from _attribute((*path, name), name, value)
            if len(group.attributes) > ATTRIBUTES_MAXIMUM - len(RESERVED_ATTRIBUTES):
                message = f"a thing has at most {ATTRIBUTES_MAXIMUM} attributes, facility and serial included"
                yield Fault(path=path, message=message, is_key=True)


def _attribute(path: DataPath, name: str, value: str) -> Iterator[Fault]:
    if name in RESERVED_ATTRIBUTES:
        yield Fault(path=path, message=f"every thing has the attribute `{name}` already", hint="rename it", is_key=True)
    if not _ATTRIBUTE_NAME.fullmatch(name):
        message = f"{name!r} is no attribute name: 1 to 128 letters, digits and any of _ . , @ / : # -"
        yield Fault(path=path, message=message, hint="AWS IoT takes no spaces there", is_key=True)
    if not _ATTRIBUTE_VALUE.fullmatch(value):
        message = f"the attribute `{name}` may hold letters, digits and any of _ . , @ / : # = [ ] -, up to 800"
        yield Fault(path=path, message=message, hint="AWS IoT takes no spaces there: write north-hall, not north hall")


def tags(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Tags are in AWS's alphabet. https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html"""
    for key, value in manifest.tags.items():
        path = ("tags", key)
        if not 1 <= len(key) <= 128 or not _is_tag_text(key):
            message = f"{key!r} is no tag key: 1 to 128 letters, digits, spaces and any of _ . : / = + - @"
            yield Fault(path=path, message=message, is_key=True)
        if key.lower().startswith("aws:"):
            yield Fault(
                path=path, message="tag keys that begin with `aws:` belong to AWS", hint="rename it", is_key=True
            )
        if len(value) > 256 or not _is_tag_text(value):
            message = f"the tag `{key}` may hold up to 256 letters, digits, spaces and any of _ . : / = + - @"
            yield Fault(path=path, message=message)


def _is_tag_text(text: str) -> bool:
    return all(character.isalnum() or character == " " or character in _TAG_PUNCTUATION for character in text)


def plain_text(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Text that people read holds nothing that they cannot see."""
    for path, value in _texts(manifest):
        hidden = next((character for character in value if unicodedata.category(character) in _HIDDEN_CATEGORIES), None)
        if hidden is not None:
            message = f"`{path[-1]}` holds the invisible character U+{ord(hidden):04X}"
            yield Fault(path=path, message=message, hint="write it on one line of visible characters")
        elif token := next((token for token in naming.TOKENS if token in value), None):
            message = f"`{path[-1]}` holds {token}, which generated documents put another value in place of"
            yield Fault(path=path, message=message, hint="write it in another way")
        elif path[-1] == "description" and not _PRINTABLE_ASCII.fullmatch(value):
            message = "`description` becomes a thing type's description, where AWS IoT takes ASCII alone"
            yield Fault(path=path, message=message)


def _texts(manifest: FleetManifest) -> Iterator[tuple[DataPath, str]]:
    for facility_id, facility in manifest.facilities.items():
        yield ("facilities", facility_id, "name"), facility.name
    for type_id, device_type in manifest.device_types.items():
        yield ("device_types", type_id, "description"), device_type.description
        for name, metric in device_type.metrics.items():
            yield ("device_types", type_id, "metrics", name, "unit"), metric.unit


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


@cache
def timezones() -> tuple[str, ...]:
    """The zones of the IANA database that name a place, and UTC; kept here, so that every machine agrees."""
    return tuple((files("generator") / "timezones.txt").read_text("ascii").split())


RULES: tuple[Rule, ...] = (
    known_device_types,
    metric_limits,
    known_region,
    known_timezones,
    registration_size,
    unique_names,
    template_names,
    bucket_names,
    group_sizes,
    attributes,
    tags,
    plain_text,
    stream_capacity,
)
