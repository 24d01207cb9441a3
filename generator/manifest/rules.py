"""Rules beyond the models: references within the manifest, AWS's limits, and rules of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from itertools import chain, pairwise
from typing import Any

from fleet_iot.generator import naming
from fleet_iot.generator.aws.limits import (
    LOAD_QUOTAS,
    QUOTAS,
    REGIONS,
    ROLE_NAME,
    TAG_KEY,
    TAG_VALUE,
    TEMPLATE_NAME,
    THING_TYPE_DESCRIPTION,
    TextLimit,
)
from fleet_iot.generator.diagnostics import DataPath, Diagnostic, EnvironmentFault, is_hidden
from fleet_iot.generator.manifest.inventory import ATTRIBUTES_MAXIMUM, check_attribute, read_spans
from fleet_iot.generator.manifest.model_errors import Draft, suggestion
from fleet_iot.generator.manifest.models import (
    OWN_TAGS,
    SILENCE_MAXIMUM_S,
    TAGS_MAXIMUM,
    Contact,
    Facility,
    FleetManifest,
    ThingGroup,
    facility_alarms,
    silence_s,
)
from fleet_iot.generator.manifest.rates import expected_load
from fleet_iot.lib import names as resource_names
from fleet_iot.lib.specs import suffixed

# Thresholds against what CloudWatch's alarms can do.

_DAYS = SILENCE_MAXIMUM_S // 86_400
_KEY = "device_silence_intervals"


def silence_windows(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """Alarms look back far enough to see that a device type is silent."""
    for facility_id, facility in manifest.facilities.items():
        intervals = facility_alarms(manifest, facility).device_silence_intervals
        for type_id in facility.things:
            device_type = manifest.device_types.get(type_id)
            if device_type and silence_s(device_type.sample_interval_s, intervals) > SILENCE_MAXIMUM_S:
                yield Diagnostic(
                    path=_place(manifest, facility_id, type_id),
                    message=f"{intervals:,} intervals of {device_type.sample_interval_s:,g} s, for `{type_id}` in "
                    f"`{facility_id}`, are more than the {_DAYS} days that an alarm looks back",
                    hint=f"lower `{_KEY}`: `facilities.{facility_id}.alarms` has its own",
                )
                break


def _place(manifest: FleetManifest, facility: str, device_type: str) -> DataPath:
    """Return the path of the number of intervals; that of the things if it is the default."""
    if manifest.facilities[facility].alarms.device_silence_intervals is not None:
        return ("facilities", facility, "alarms", _KEY)
    if _KEY in manifest.observability.alarms.model_fields_set:
        return ("observability", "alarms", _KEY)
    return ("facilities", facility, "things", device_type)


# History: each level is kept at least as long as the one it is summed up from.


def history_thins_out(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """Hours are kept at least as long as minutes, and days at least as long as hours."""
    kept = manifest.history
    for finer, coarser, fine_days, coarse_days in (
        ("minute_days", "hour_days", kept.minute_days, kept.hour_days),
        ("hour_days", "day_days", kept.hour_days, kept.day_days),
    ):
        if coarse_days < fine_days:
            said = coarser if coarser in kept.model_fields_set else finer
            yield Diagnostic(
                path=("history", said),
                message=f"`{coarser}`, {coarse_days:,}, is less than `{finer}`, {fine_days:,}",
                hint=f"keep what sums up others at least as long: raise `{coarser}` or lower `{finer}`",
            )


# Metrics: limits, and detectors that need several metrics.


def metric_limits(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """A metric has a limit, and its limits leave room between them."""
    for type_id, device_type in manifest.device_types.items():
        for name, metric in device_type.metrics.items():
            path = ("device_types", type_id, "metrics", name)
            if metric.min is None and metric.max is None:
                yield Diagnostic(path=path, message=f"`{name}` needs `min` or `max`, or both", is_key=True)
            elif metric.min is not None and metric.max is not None and metric.min >= metric.max:
                message = f"`min` {metric.min:g} is not below `max` {metric.max:g}: every reading would be an anomaly"
                yield Diagnostic(path=(*path, "min"), message=message)


def correlated_metrics(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """A device type that has a metric with the detector correlation has another one."""
    for type_id, device_type in manifest.device_types.items():
        named = [name for name, metric in device_type.metrics.items() if metric.detector == "correlation"]
        if len(named) == 1:
            yield Diagnostic(
                path=("device_types", type_id, "metrics", named[0]),
                message=f"`{named[0]}` is the only metric of `{type_id}` with `detector: correlation`",
                hint="give it to the metrics that move together with it as well, or choose another detector",
                is_key=True,
            )


def running_signal(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """The metric that says when a machine runs is one that `detector: machine` watches, and runs within its limits."""
    for type_id, device_type in manifest.device_types.items():
        running = device_type.running
        if running is None:
            continue
        watched = sorted(name for name, metric in device_type.metrics.items() if metric.detector == "machine")
        if running.metric not in watched:
            known = f"choose one of {', '.join(watched)}" if watched else "give a metric `detector: machine`"
            yield Diagnostic(
                path=("device_types", type_id, "running", "metric"),
                message=f"`{running.metric}` is no metric of `{type_id}` with `detector: machine`",
                hint=f"{known}, or remove `running`: what the machine does is inferred then",
            )
            continue
        metric = device_type.metrics[running.metric]
        least, most = metric.min, metric.max
        if (least is not None and running.above < least) or (most is not None and running.above >= most):
            span = " to ".join("" if limit is None else f"{limit:g}" for limit in (least, most)).strip()
            yield Diagnostic(
                path=("device_types", type_id, "running", "above"),
                message=f"{running.above:g} is not within the limits of `{running.metric}`, {span}",
                hint="choose a value that it is below while the machine stands, and above while it runs",
            )


MACHINE_INTERVAL_S = 3_600.0


def machine_interval(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """A metric with the detector machine has a reading an hour at least."""
    for type_id, device_type in manifest.device_types.items():
        watched = [name for name, metric in device_type.metrics.items() if metric.detector == "machine"]
        if watched and float(device_type.sample_interval_s) > MACHINE_INTERVAL_S:
            yield Diagnostic(
                path=("device_types", type_id, "sample_interval_s"),
                message=f"`detector: machine`, the default, needs a reading an hour, for {', '.join(watched)}",
                hint="give these metrics `detector: context` or `limits`, or readings more often",
            )


# Texts and tags.


def tags(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """Tags are in AWS's alphabet. https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html"""
    for path, value in _tags(manifest):
        key = str(path[-1])
        if not _is_tag_text(key, TAG_KEY):
            message = f"{key!r} is no tag key: 1 to {TAG_KEY.max} letters, digits, spaces and any of _ . : / = + - @"
            yield Diagnostic(path=path, message=message, is_key=True)
        if key.lower().startswith("aws:"):
            yield Diagnostic(
                path=path, message="tag keys that begin with `aws:` belong to AWS", hint="rename it", is_key=True
            )
        if not _is_tag_text(value, TAG_VALUE):
            message = (
                f"the tag `{key}` may contain up to {TAG_VALUE.max} letters, digits, spaces and any of _ . : / = + - @"
            )
            yield Diagnostic(path=path, message=message)
        elif not value:
            # https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_Tag.html
            message = f"the tag `{key}` is empty, and CloudTrail accepts no tag without a value"
            yield Diagnostic(path=path, message=message, hint="give it a value, or remove it")


def _tags(manifest: FleetManifest) -> Iterator[tuple[DataPath, str]]:
    yield from ((("tags", key), value) for key, value in manifest.tags.items())
    for id_, facility in manifest.facilities.items():
        yield from ((("facilities", id_, "tags", key), value) for key, value in facility.tags.items())


def tag_count(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """A facility's tags and those of the fleet are together no more than AWS accepts."""
    for id_, facility in manifest.facilities.items():
        together = len(manifest.tags | facility.tags)
        if facility.tags and together > TAGS_MAXIMUM:
            message = f"with the fleet's tags these are {together}; AWS accepts {TAGS_MAXIMUM} in addition to ours"
            yield Diagnostic(path=("facilities", id_, "tags"), message=message, is_key=True)


def unique_tags(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """No two tag keys of a resource differ only in case, and none is one of ours: IAM treats such keys as one."""
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_naming
    fleet: dict[str, str] = {}
    for key in manifest.tags:
        yield from _tag_again(("tags",), key, {each: f"`{other}`" for each, other in fleet.items()})
        fleet.setdefault(key.casefold(), key)
    for id_, facility in manifest.facilities.items():
        here: dict[str, str] = {}
        for key in facility.tags:
            # The same key as the fleet's replaces it; another spelling would be a second tag.
            others = {each: f"`{other}` of the whole fleet" for each, other in fleet.items() if other != key}
            others |= {each: f"`{other}`" for each, other in here.items()}
            yield from _tag_again(("facilities", id_, "tags"), key, others)
            here.setdefault(key.casefold(), key)


def _tag_again(path: DataPath, key: str, others: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Yield a fault if `key` differs from another tag's key in case only; `others`: keys by their lower case."""
    folded = key.casefold()
    if folded in OWN_TAGS:
        message, hint = f"the tag key `{key}` is taken: every resource is tagged with `{folded}`", "choose another key"
    elif folded in others:
        message = f"the tag keys `{key}` and {others[folded]} differ only in case"
        hint = "spell both alike: IAM treats them as one key, so no role could be created"
    else:
        return
    yield Diagnostic(path=(*path, key), message=message, hint=hint, is_key=True)


def _is_tag_text(text: str, limit: TextLimit) -> bool:
    """Return whether AWS accepts the text, and it has no invisible characters."""
    return limit.takes(text) and text.isprintable() and not any(map(is_hidden, text))


def plain_text(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """Text that people read contains no invisible characters."""
    for path, value in _texts(manifest):
        hidden = next(filter(is_hidden, value), None)
        if hidden is not None:
            message = f"`{path[-1]}` contains the invisible character U+{ord(hidden):04X}"
            yield Diagnostic(path=path, message=message, hint="write it on one line of visible characters")
        elif token := next((token for token in naming.TOKENS if token in value), None):
            message = f"`{path[-1]}` contains {token}, which generated documents replace by another value"
            yield Diagnostic(path=path, message=message, hint="write it in another way")
        elif path[-1] == "description" and not THING_TYPE_DESCRIPTION.takes(value):
            message = "`description` becomes a thing type's description, where AWS IoT accepts ASCII only"
            yield Diagnostic(path=path, message=message)


def _texts(manifest: FleetManifest) -> Iterator[tuple[DataPath, str]]:
    for facility_id, facility in manifest.facilities.items():
        yield ("facilities", facility_id, "name"), facility.name
        for line_id, line in facility.lines.items():
            if line.name is not None:
                yield ("facilities", facility_id, "lines", line_id, "name"), line.name
    for path, contact in _contacts(manifest):
        yield (*path, "name"), contact.name
    for type_id, device_type in manifest.device_types.items():
        yield ("device_types", type_id, "description"), device_type.description
        for name, metric in device_type.metrics.items():
            yield ("device_types", type_id, "metrics", name, "unit"), metric.unit


def _contacts(manifest: FleetManifest) -> Iterator[tuple[DataPath, Contact]]:
    if manifest.defaults.contact is not None:
        yield ("defaults", "contact"), manifest.defaults.contact
    for facility_id, facility in manifest.facilities.items():
        if facility.contact is not None:
            yield ("facilities", facility_id, "contact"), facility.contact
        for line_id, line in facility.lines.items():
            if line.contact is not None:
                yield ("facilities", facility_id, "lines", line_id, "contact"), line.contact


# Things: production lines, attributes and serial numbers.

LINE = "line"
"""The attribute that says on which production line a thing is."""


def known_lines(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """The production lines of things are those that the facility has."""
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            path: DataPath = ("facilities", facility_id, "things", type_id)
            for place, line, is_key in _lines_of(group):
                if line not in facility.lines:
                    hint = suggestion(line, facility.lines) or f"describe it in `facilities.{facility_id}.lines`"
                    message = f"`{facility_id}` has no line `{line}`"
                    yield Diagnostic(path=(*path, *place), message=message, hint=hint, is_key=is_key)


def _lines_of(group: ThingGroup) -> Iterator[tuple[DataPath, str, bool]]:
    """Yield every production line that a group names: its path, its id, and whether it is a key there."""
    if group.line is not None:
        yield ("line",), group.line, False
    for line in group.lines:
        yield ("lines", line), line, True
    for name, thing in group.names.items():
        if thing.line is not None:
            yield ("names", name, "line"), thing.line, False


def line_numbers(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """Each number is on one line at most, and is one that the group has."""
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            if group.lines:
                yield from _line_numbers(group, ("facilities", facility_id, "things", type_id))


def _line_numbers(group: ThingGroup, path: DataPath) -> Iterator[Diagnostic]:
    if not group.is_numbered:
        message, hint = "`lines` goes by number, and these things have names", "give each thing its `line`"
        yield Diagnostic(path=(*path, "lines"), message=message, hint=hint, is_key=True)
        return
    if group.line is not None:
        yield Diagnostic(
            path=(*path, "line"), message="`line` and `lines` together", hint="keep one of them", is_key=True
        )
    taken = sorted((span, line) for line, text in group.lines.items() for span in read_spans(text))
    for span, line in taken:
        if not 1 <= span.first <= span.last <= group.count:
            message = f"`{line}` has {span}, and the things are numbered from 1 to {group.count:,}"
            yield Diagnostic(
                path=(*path, "lines", line), message=message, hint="the lower number first, within the count"
            )
    for (before, one), (after, other) in pairwise(taken):
        if after.first <= before.last:
            message = f"the number {after.first} is on `{one}` ({before}) and on `{other}` ({after})"
            yield Diagnostic(path=(*path, "lines", other), message=message, hint="a thing is on one line")


def attributes(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """AWS IoT attributes: a narrow alphabet without spaces, two names taken, fifty in all."""
    for path, given in _attributes(manifest):
        for name, value in given.items():
            yield from check_attribute(name, value, path=(*path, name))
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            path = ("facilities", facility_id, "things", type_id)
            yield from _line_twice(group, path)
            if _most_attributes(manifest, facility, group) > ATTRIBUTES_MAXIMUM:
                message = f"a thing has at most {ATTRIBUTES_MAXIMUM} attributes, facility and serial included"
                place = (*path, "attributes") if group.attributes else path
                yield Diagnostic(path=place, message=message, is_key=True)


def _attributes(manifest: FleetManifest) -> Iterator[tuple[DataPath, Mapping[str, str]]]:
    """Yield all attributes of the manifest with their paths."""
    yield ("defaults", "attributes"), manifest.defaults.attributes
    for facility_id, facility in manifest.facilities.items():
        plant: DataPath = ("facilities", facility_id)
        yield (*plant, "attributes"), facility.attributes
        for line_id, line in facility.lines.items():
            yield (*plant, "lines", line_id, "attributes"), line.attributes
        for type_id, group in facility.things.items():
            path = (*plant, "things", type_id)
            yield (*path, "attributes"), group.attributes
            for name, thing in group.names.items():
                yield (*path, "names", name, "attributes"), thing.attributes


def _line_twice(group: ThingGroup, path: DataPath) -> Iterator[Diagnostic]:
    has_line = group.line is not None or group.lines or any(thing.line for thing in group.names.values())
    if has_line and LINE in group.attributes:
        message = "the attribute `line` is that of the production line already"
        yield Diagnostic(path=(*path, "attributes", LINE), message=message, hint="remove it", is_key=True)


def _most_attributes(manifest: FleetManifest, facility: Facility, group: ThingGroup) -> int:
    """Return the most attributes that a thing of the group has."""
    shared = {"facility", "serial", *manifest.defaults.attributes, *facility.attributes, *group.attributes}
    most = 0
    kinds: set[tuple[str | None, tuple[str, ...]]] = {(line, ()) for line in (group.line, *group.lines)}
    kinds |= {(thing.line or group.line, tuple(thing.attributes)) for thing in group.names.values()}
    kinds |= {(line or group.line, own) for line, own in (group.inventory.kinds if group.inventory else ())}
    for line, own in kinds:
        names = {LINE, *facility.lines[line].attributes} if line in facility.lines else set()
        most = max(most, len(shared | names | set(own)))
    return most


def unique_serials(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """A serial number is that of one device."""
    numbered = {
        naming.serial_prefix(facility_id, type_id): (facility_id, type_id, group.count)
        for facility_id, facility in manifest.facilities.items()
        for type_id, group in facility.things.items()
        if group.is_numbered
    }
    # Two passes: the hashes of a million serials need less memory than a dictionary of them.
    hashes = sorted(hash(serial) for _, _, serial in _serials(manifest))
    repeated = {one for one, other in pairwise(hashes) if one == other}
    owners: dict[str, str] = {}
    for path, thing, serial in _serials(manifest):
        owner = owners.setdefault(serial, thing) if hash(serial) in repeated else thing
        if owner == thing:
            owner = _numbered_owner(serial, numbered) or thing
        if owner != thing:
            message = f"the serial `{serial}` of {thing} is that of {owner} too"
            yield Diagnostic(path=path, message=message, hint="a serial number is that of one device")


def _serials(manifest: FleetManifest) -> Iterator[tuple[DataPath, str, str]]:
    """Yield the path, full name and serial of each named thing."""
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            path: DataPath = ("facilities", facility_id, "things", type_id)
            named = [("names", name, known.serial) for name, known in group.names.items()]
            listed = (("inventory", thing.name, thing.serial) for thing in group.inventory or ())
            for source, name, serial in chain(named, listed):
                thing = naming.named_thing(facility_id, type_id, name)
                yield (*path, source, name), thing, serial or naming.named_serial(facility_id, type_id, name)


def _numbered_owner(serial: str, numbered: Mapping[str, tuple[str, str, int]]) -> str | None:
    """Return the numbered thing with a serial; `numbered`: facility, type and count by the prefix of their serials."""
    prefix, _, digits = serial.rpartition("-")
    facility, device_type, count = numbered.get(f"{prefix}-", ("", "", 0))
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and 1 <= int(digits) <= count):
        return None
    is_same = naming.serial(facility, device_type, int(digits)) == serial
    return naming.thing_name(facility, device_type, int(digits)) if is_same else None


# Rules of installed packages, through the entry point group `fleet.rules`: functions of the manifest that yield
# (path, message, hint), where `path` is the keys and indexes of the value. They run once the models have no fault.

GROUP = "fleet.rules"

OwnRule = Callable[[FleetManifest], Iterable[Any]]


def check_own_rules(manifest: FleetManifest) -> Iterator[Diagnostic]:
    """Yield what added rules find, under the rules' names."""
    for name, rule in _rules():
        for found in rule(manifest):
            yield _fault(name, found)


@cache
def _rules() -> tuple[tuple[str, OwnRule], ...]:
    rules = []
    for point in sorted(entry_points(group=GROUP)):
        try:
            rule = point.load()
        except Exception as error:  # a package of the project, which may break in any way while it is loaded
            raise EnvironmentFault(
                f"the rule `{point.name}` ({point.value}) cannot be loaded: {error or type(error).__name__}",
                hint="fix or uninstall the package that adds it",
            ) from error
        if not callable(rule):
            raise _unusable(point.name, "is no function")
        rules.append((point.name, rule))
    return tuple(rules)


def _fault(name: str, found: Any) -> Diagnostic:
    match found:
        case (tuple() | list() as path, str(message), *rest) if message and len(rest) <= 1:
            hint = rest[0] if rest else ""
            if isinstance(hint, str) and all(isinstance(step, str | int) for step in path):
                return Diagnostic(path=tuple(path), message=message, hint=hint, is_key=True, rule=name)
    raise _unusable(name, f"yields {found!r}, not (path, message, hint)")


def _unusable(name: str, what: str) -> EnvironmentFault:
    return EnvironmentFault(f"the rule `{name}` {what}", hint="docs/extending.md shows one")


# References within the manifest, names, and AWS's limits.

TERRAFORM_MAXIMUM = 2_500
"""Planning costs 35 ms of CPU a thing and more than a gigabyte of memory from here on."""
BUCKET_NAME_MAXIMUM = 63
BUCKET_NAME_ENDINGS = ("-s3alias", "--ol-s3", "--x-s3", "--table-s3")
"""Reserved by S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
CHILD_GROUPS_MAXIMUM = 100
"""Direct children of a thing group: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""

Rule = Callable[[FleetManifest, Draft], Iterator[Diagnostic]]


def check_rules(draft: Draft) -> Iterator[Diagnostic]:
    """Yield what rules find; nothing if the shared parts could not be read."""
    if draft.manifest is not None:
        for rule in RULES:
            for fault in rule(draft.manifest, draft):
                yield replace(fault, rule=fault.rule or rule_id(rule))
        if draft.is_complete:
            yield from check_own_rules(draft.manifest)


def rule_id(rule: Rule) -> str:
    """Return the id by which programs know a rule: the name of its function, with hyphens."""
    return rule.__name__.replace("_", "-")


def known_device_types(manifest: FleetManifest, draft: Draft) -> Iterator[Diagnostic]:
    """A facility's things are of device types that the manifest describes."""
    for facility_id, facility in manifest.facilities.items():
        for type_id in facility.things:
            if type_id not in draft.device_types:
                hint = suggestion(type_id, draft.device_types) or "describe it in `device_types`"
                path = ("facilities", facility_id, "things", type_id)
                yield Diagnostic(path=path, message=f"there is no device type `{type_id}`", hint=hint, is_key=True)


def known_region(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """The region is one where AWS IoT Core and Kinesis exist."""
    if manifest.region not in REGIONS:
        hint = suggestion(manifest.region, REGIONS) or f"known: {', '.join(REGIONS)}"
        yield Diagnostic(
            path=("region",), message=f'there is no region "{manifest.region}" with AWS IoT Core', hint=hint
        )


def known_timezones(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """Time zones are those of the IANA database."""
    zones: dict[DataPath, str] = {
        ("facilities", id_, "timezone"): facility.timezone for id_, facility in manifest.facilities.items()
    }
    if manifest.defaults.timezone is not None:
        zones[("defaults", "timezone")] = manifest.defaults.timezone
    for path, zone in zones.items():
        if zone not in timezones():
            hint = suggestion(zone, timezones()) or "use an IANA name, such as Asia/Singapore"
            yield Diagnostic(path=path, message=f'there is no time zone "{zone}"', hint=hint)


def registration_size(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """Terraform registers only as many things as it can plan in reasonable time."""
    for facility_id, facility in manifest.facilities.items():
        if facility.registration == "terraform" and facility.thing_count > TERRAFORM_MAXIMUM:
            yield Diagnostic(
                path=("facilities", facility_id, "registration"),
                message=f"`terraform` registers at most {TERRAFORM_MAXIMUM:,} things, and `{facility_id}` has "
                f"{facility.thing_count:,}",
                hint="use `registration: bulk`",
            )


def unique_names(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """No two things, groups or policies get the same name: `a-b` with `c` and `a` with `b-c` would."""
    owners: dict[str, str] = {resource_names.facility_group(id_): f"facility `{id_}`" for id_ in manifest.facilities}
    for facility_id, facility in manifest.facilities.items():
        for type_id in facility.things:
            owner = f"`{type_id}` in `{facility_id}`"
            names = (resource_names.thing_group(facility_id, type_id), naming.serial_prefix(facility_id, type_id))
            for name in names:
                if name in owners:
                    path = ("facilities", facility_id, "things", type_id)
                    message = f"{owner} would get the same names as {owners[name]}: {name}"
                    yield Diagnostic(path=path, message=message, hint="rename one of the two ids", is_key=True)
                    break
                owners[name] = owner


def template_names(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """The name of the provisioning template fits with its suffix."""
    for facility_id in manifest.facilities:
        name = f"{resource_names.provisioning_template(facility_id)}-{manifest.environment_suffix}"
        if excess := max(0, len(name) - TEMPLATE_NAME.max):
            message = f"the provisioning template's name {name} is longer than AWS's {TEMPLATE_NAME.max} characters"
            hint = f"shorten the facility's id or the environment_suffix by {excess}"
            yield Diagnostic(path=("facilities", facility_id), message=message, hint=hint, is_key=True)


def bucket_names(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """The names of the buckets fit with account and suffix."""
    longest = max(resource_names.BUCKETS, key=len)
    name = resource_names.bucket(manifest.application, longest, manifest.account_id, manifest.environment_suffix)
    if excess := max(0, len(name) - BUCKET_NAME_MAXIMUM):
        message = f"the bucket's name {name} is longer than S3's {BUCKET_NAME_MAXIMUM} characters"
        yield Diagnostic(path=("application",), message=message, hint=f"shorten `application` by {excess}")
    for ending in BUCKET_NAME_ENDINGS:
        if name.endswith(ending):
            message = f"the bucket's name {name} ends in {ending}, which S3 keeps for itself"
            yield Diagnostic(path=("environment_suffix",), message=message, hint="choose another environment_suffix")


def role_names(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """The names of the IAM roles fit with application, region and suffix."""
    base = resource_names.account_wide(resource_names.LONGEST_ROLE, manifest.application, manifest.region)
    name = suffixed(base, manifest.environment_suffix)
    if manifest.region in REGIONS and (excess := max(0, len(name) - ROLE_NAME.max)):
        message = f"the role's name {name} is longer than IAM's {ROLE_NAME.max} characters"
        hint = f"shorten `application` or `environment_suffix` by {excess}"
        yield Diagnostic(path=("application",), message=message, hint=hint)


def group_sizes(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """A facility's thing group has no more child groups than AWS IoT accepts."""
    for facility_id, facility in manifest.facilities.items():
        if len(facility.things) > CHILD_GROUPS_MAXIMUM:
            message = f"`{facility_id}` has {len(facility.things)} device types; AWS accepts {CHILD_GROUPS_MAXIMUM}"
            hint = "split the facility"
            yield Diagnostic(path=("facilities", facility_id, "things"), message=message, hint=hint, is_key=True)


def stream_capacity(manifest: FleetManifest, draft: Draft) -> Iterator[Diagnostic]:
    """The stream's capacity covers the whole fleet's load from its first minute."""
    if not draft.is_complete:
        return
    load, start = expected_load(manifest), manifest.stream.start_capacity
    if load.messages > start.records_per_second or load.megabytes > start.megabytes_per_second:
        is_given = "start_capacity" in manifest.stream.model_fields_set
        yield Diagnostic(
            path=("stream", "start_capacity") if is_given else ("facilities",),
            message=f"the fleet sends {load.messages:,.0f} records/s and "
            f"{load.megabytes:,.1f} MB/s, and the on-demand stream starts at "
            f"{start.records_per_second:,} records/s and {start.megabytes_per_second:g} MB/s",
            hint="lengthen sample_interval_s, or let AWS warm the stream and state that in stream.start_capacity",
            is_key=True,
        )


def account_quotas(manifest: FleetManifest, _: Draft) -> Iterator[Diagnostic]:
    """All facilities are within one account's default quotas (a warning)."""
    plants = len(manifest.facilities)
    for quota in QUOTAS:
        needed = quota.of_platform + quota.of_each_plant * plants
        if quota.of_each_plant and needed > quota.most:
            yield Diagnostic(
                path=("facilities",),
                message=f"{plants:,} facilities make {needed:,} {quota.what}; "
                f"an account has {quota.most:,} in a region",
                hint=f"have AWS raise the quota, or divide the facilities among accounts: {quota.page}",
                is_key=True,
                is_warning=True,
            )


def load_quotas(manifest: FleetManifest, draft: Draft) -> Iterator[Diagnostic]:
    """The load is within the quotas of every service on a reading's way; what AWS raises on request is a warning."""
    if not draft.is_complete:
        return
    load = expected_load(manifest)
    for quota in LOAD_QUOTAS:
        needed, most = getattr(load, quota.measure), quota.of(manifest.region)
        if needed > most:
            yield Diagnostic(
                path=("facilities",),
                message=f"{needed:,.0f} {quota.what}; {quota.name} is {most:,.0f} by default in {manifest.region}",
                hint=f"{quota.remedy}: {quota.page}",
                is_key=True,
                is_warning=not quota.is_error,
            )


def reserved_invocations(manifest: FleetManifest, draft: Draft) -> Iterator[Diagnostic]:
    """The processor may run for all shards at once, and sweep (a warning)."""
    reserved = manifest.processor.reserved_concurrency
    if draft.is_complete and reserved is not None and reserved <= (shards := expected_load(manifest).shards):
        yield Diagnostic(
            path=("processor", "reserved_concurrency"),
            message=f"{reserved:,} invocations are reserved, and the stream grows to {shards:,} shards under this load",
            hint=f"reserve at least {shards + 1:,}: one for each shard, or it falls behind, and one for the sweeps",
            is_warning=True,
        )


COMPACTED_READINGS = 5_000
"""Readings a second for which the archive's compaction has time: 24 minutes an hour, with 150 plants and types."""


def archive_load(manifest: FleetManifest, draft: Draft) -> Iterator[Diagnostic]:
    """The archive's compaction keeps up with the readings (a warning)."""
    if draft.is_complete and (readings := expected_load(manifest).readings) > COMPACTED_READINGS:
        yield Diagnostic(
            path=("facilities",),
            message=f"{readings:,.0f} readings a second; the archive's compaction takes {COMPACTED_READINGS:,}, and "
            "beyond that raw objects stay as they are",
            hint="divide the plants among environments, or have devices send less often",
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
    running_signal,
    machine_interval,
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
    load_quotas,
    reserved_invocations,
    archive_load,
    silence_windows,
    history_thins_out,
)
