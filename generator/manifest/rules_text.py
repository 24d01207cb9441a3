"""Checks what the manifest says in words: tags, and the texts that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fleet_iot.generator import naming
from fleet_iot.generator.aws.limits import TAG_KEY, TAG_VALUE, THING_TYPE_DESCRIPTION, TextLimit
from fleet_iot.generator.diagnostics import is_hidden
from fleet_iot.generator.manifest.model_errors import Draft, Fault
from fleet_iot.generator.manifest.models import OWN_TAGS, TAGS_MAXIMUM, Contact, FleetManifest
from fleet_iot.generator.manifest.sources import DataPath


def tags(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Tags are in AWS's alphabet. https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html"""
    for path, value in _tags(manifest):
        key = str(path[-1])
        if not _is_tag_text(key, TAG_KEY):
            message = f"{key!r} is no tag key: 1 to {TAG_KEY.max} letters, digits, spaces and any of _ . : / = + - @"
            yield Fault(path=path, message=message, is_key=True)
        if key.lower().startswith("aws:"):
            yield Fault(
                path=path, message="tag keys that begin with `aws:` belong to AWS", hint="rename it", is_key=True
            )
        if not _is_tag_text(value, TAG_VALUE):
            message = (
                f"the tag `{key}` may hold up to {TAG_VALUE.max} letters, digits, spaces and any of _ . : / = + - @"
            )
            yield Fault(path=path, message=message)
        elif not value:
            # https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_Tag.html
            message = f"the tag `{key}` is empty, and CloudTrail takes no tag without a value"
            yield Fault(path=path, message=message, hint="give it a value, or take it away")


def _tags(manifest: FleetManifest) -> Iterator[tuple[DataPath, str]]:
    yield from ((("tags", key), value) for key, value in manifest.tags.items())
    for id_, facility in manifest.facilities.items():
        yield from ((("facilities", id_, "tags", key), value) for key, value in facility.tags.items())


def tag_count(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """A facility's tags and those of all together are no more than AWS takes."""
    for id_, facility in manifest.facilities.items():
        together = len(manifest.tags | facility.tags)
        if facility.tags and together > TAGS_MAXIMUM:
            message = f"with those of the whole fleet these are {together} tags; AWS takes {TAGS_MAXIMUM} besides ours"
            yield Fault(path=("facilities", id_, "tags"), message=message, is_key=True)


def unique_tags(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """No two tag keys of a resource differ in case alone, and none is one of ours: IAM takes such keys for one."""
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_naming
    fleet: dict[str, str] = {}
    for key in manifest.tags:
        yield from _tag_again(("tags",), key, {each: f"`{other}`" for each, other in fleet.items()})
        fleet.setdefault(key.casefold(), key)
    for id_, facility in manifest.facilities.items():
        here: dict[str, str] = {}
        for key in facility.tags:
            # The very key of the whole fleet is meant to be replaced; another spelling of it would stand beside it.
            others = {each: f"`{other}` of the whole fleet" for each, other in fleet.items() if other != key}
            others |= {each: f"`{other}`" for each, other in here.items()}
            yield from _tag_again(("facilities", id_, "tags"), key, others)
            here.setdefault(key.casefold(), key)


def _tag_again(path: DataPath, key: str, others: Mapping[str, str]) -> Iterator[Fault]:
    """A fault where `key` is that of another tag in a different case; `others`: by key in one case, which one it is."""
    folded = key.casefold()
    if folded in OWN_TAGS:
        message, hint = f"the tag key `{key}` is taken: every resource is tagged with `{folded}`", "choose another key"
    elif folded in others:
        message = f"the tag keys `{key}` and {others[folded]} differ in case alone"
        hint = "spell both alike: IAM takes them for one, and no role could be made"
    else:
        return
    yield Fault(path=(*path, key), message=message, hint=hint, is_key=True)


def _is_tag_text(text: str, limit: TextLimit) -> bool:
    """What AWS takes, but for separators that nobody sees."""
    return limit.takes(text) and text.isprintable() and not any(map(is_hidden, text))


def plain_text(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Text that people read holds nothing that they cannot see."""
    for path, value in _texts(manifest):
        hidden = next(filter(is_hidden, value), None)
        if hidden is not None:
            message = f"`{path[-1]}` holds the invisible character U+{ord(hidden):04X}"
            yield Fault(path=path, message=message, hint="write it on one line of visible characters")
        elif token := next((token for token in naming.TOKENS if token in value), None):
            message = f"`{path[-1]}` holds {token}, which generated documents put another value in place of"
            yield Fault(path=path, message=message, hint="write it in another way")
        elif path[-1] == "description" and not THING_TYPE_DESCRIPTION.takes(value):
            message = "`description` becomes a thing type's description, where AWS IoT takes ASCII alone"
            yield Fault(path=path, message=message)


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
