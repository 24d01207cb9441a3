"""The impact of each kind of change on devices and data: one table, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Impact(StrEnum):
    """Impact of a change, from the least to the worst."""

    SAFE = "safe"
    RECONFIGURES = "reconfigures"
    BREAKS_IDENTITY = "breaks-identity"
    DESTROYS_DATA = "destroys-data"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return list(Impact).index(self)


REFUSED = (Impact.BREAKS_IDENTITY, Impact.DESTROYS_DATA)
"""Impacts that `fleet generate` refuses unless they are allowed."""


class Kind(StrEnum):
    """Kind of a change."""

    APPLICATION = "application"
    REGION = "region"
    ACCOUNT = "account"
    SUFFIX = "environment-suffix"
    TAGS = "tags"
    PROCESSOR = "processor"
    OBSERVABILITY = "observability"
    HISTORY = "history"
    RETENTION_LENGTHENED = "retention-lengthened"
    RETENTION_SHORTENED = "retention-shortened"
    AUDIT_WIDENED = "audit-widened"
    AUDIT_NARROWED = "audit-narrowed"
    TYPE_ADDED = "type-added"
    TYPE_REMOVED = "type-removed"
    TYPE_RENAMED = "type-renamed"
    TYPE_DESCRIPTION = "type-description"
    SAMPLE_INTERVAL = "sample-interval"
    METRIC_ADDED = "metric-added"
    METRIC_REMOVED = "metric-removed"
    METRIC_UNIT = "metric-unit"
    METRIC_LIMITS = "metric-limits"
    METRIC_DETECTOR = "metric-detector"
    FACILITY_ADDED = "facility-added"
    FACILITY_REMOVED = "facility-removed"
    FACILITY_NAME = "facility-name"
    FACILITY_TIMEZONE = "facility-timezone"
    FACILITY_CONTACT = "facility-contact"
    FACILITY_TAGS = "facility-tags"
    FACILITY_LINES = "facility-lines"
    FACILITY_ALARMS = "facility-alarms"
    REGISTRATION = "registration"
    THINGS_ADDED = "things-added"
    THINGS_CHANGED = "things-changed"
    THINGS_RETIRED = "things-retired"
    THINGS_REPLACED = "things-replaced"
    THINGS_RENAMED = "things-renamed"
    THINGS_MOVED = "things-moved"
    KEYS_CHANGED = "keys-changed"
    CERTIFICATES_REPLACED = "certificates-replaced"
    CERTIFICATES_REMOVED = "certificates-removed"
    CERTIFICATES_REVIVED = "certificates-revived"
    CERTIFICATES_ROTATED = "certificates-rotated"
    ROTATIONS_FINISHED = "rotations-finished"
    KEYS_UNLOCKED = "keys-unlocked"
    LOCKS_UNPLANNED = "locks-unplanned"
    DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The impact of one kind of change, and why it is that."""

    impact: Impact
    reason: str


def _rule(impact: Impact, reason: str) -> Rule:
    return Rule(impact=impact, reason=reason)


RULES: dict[Kind, Rule] = {
    Kind.APPLICATION: _rule(
        Impact.DESTROYS_DATA,
        "buckets and Terraform's state are named by it: what there is has to be destroyed, with its data, and made "
        "anew; devices publish to other topics",
    ),
    Kind.REGION: _rule(
        Impact.DESTROYS_DATA,
        "nothing moves between regions: streams, tables, buckets, things and certificates have to be destroyed there "
        "and created again here",
    ),
    Kind.ACCOUNT: _rule(
        Impact.DESTROYS_DATA,
        "buckets are named by the account and cannot be renamed: Terraform empties and replaces them",
    ),
    Kind.SUFFIX: _rule(
        Impact.SAFE,
        "every name ends in it, so another environment is made beside the former one, which stays, with its devices, "
        "until it is destroyed",
    ),
    Kind.TAGS: _rule(Impact.SAFE, "tags are updated in place"),
    Kind.PROCESSOR: _rule(Impact.SAFE, "the function's settings are updated in place"),
    Kind.OBSERVABILITY: _rule(Impact.SAFE, "alarms and logs are updated in place; devices do not notice"),
    Kind.HISTORY: _rule(Impact.SAFE, "applies to new items; items in the readings table keep their expiry"),
    Kind.RETENTION_LENGTHENED: _rule(
        Impact.SAFE,
        "Object Lock, deletion protection and years of retention come in place; what was archived before is not "
        "locked, and these buckets can never again be without Object Lock",
    ),
    Kind.RETENTION_SHORTENED: _rule(
        Impact.DESTROYS_DATA,
        "logs, trail files and earlier versions that are older than the short retention are deleted, and tables and "
        "buckets can be destroyed again; objects that are locked stay until their date",
    ),
    Kind.AUDIT_WIDENED: _rule(
        Impact.SAFE, "the platform's own writes of telemetry are recorded from the next apply on; writes before are not"
    ),
    Kind.AUDIT_NARROWED: _rule(
        Impact.DESTROYS_DATA,
        "from the next apply on, the platform's own writes of telemetry leave no audit event, and no later setting "
        "brings it back; other events, and all files so far, stay",
    ),
    Kind.TYPE_ADDED: _rule(Impact.SAFE, "nothing that exists is touched"),
    Kind.TYPE_REMOVED: _rule(
        Impact.SAFE, "a thing type without things; AWS IoT deletes it five minutes after it was deprecated"
    ),
    Kind.TYPE_RENAMED: _rule(
        Impact.BREAKS_IDENTITY,
        "the type is part of the thing name, which is the MQTT client id: each device needs a new name, topic and "
        "certificate; readings so far stay under the former names",
    ),
    Kind.TYPE_DESCRIPTION: _rule(
        Impact.BREAKS_IDENTITY,
        "AWS IoT never changes a thing type's description: Terraform replaces the type, which AWS IoT refuses while "
        "there are things of it, so they have to be retired and created again",
    ),
    Kind.SAMPLE_INTERVAL: _rule(Impact.RECONFIGURES, "devices have to be configured with the new interval"),
    Kind.METRIC_ADDED: _rule(Impact.RECONFIGURES, "devices have to send it"),
    Kind.METRIC_REMOVED: _rule(
        Impact.SAFE, "devices may go on sending it: it is kept raw, and no longer aggregated or watched"
    ),
    Kind.METRIC_UNIT: _rule(
        Impact.RECONFIGURES, "devices have to send it in the new unit; readings so far stay in the former one"
    ),
    Kind.METRIC_LIMITS: _rule(Impact.SAFE, "the sensor processor judges the readings, not the device"),
    Kind.METRIC_DETECTOR: _rule(
        Impact.SAFE,
        "running events of the former detector end with that reason; the new one learns from then on, `machine` for "
        "a week, in which only limits act; a detector that the manifest names, or its `defaults`, stays",
    ),
    Kind.FACILITY_ADDED: _rule(Impact.SAFE, "nothing that exists is touched"),
    Kind.FACILITY_REMOVED: _rule(
        Impact.DESTROYS_DATA,
        "its stack has to be destroyed: groups, policies, topic rule, dashboard, and the prefixes by which its "
        "readings are found and aged",
    ),
    Kind.FACILITY_NAME: _rule(Impact.SAFE, "only descriptions, dashboard and runbook contain it"),
    Kind.FACILITY_TIMEZONE: _rule(Impact.SAFE, "only the runbook contains it"),
    Kind.FACILITY_CONTACT: _rule(Impact.SAFE, "only the runbook contains it"),
    Kind.FACILITY_TAGS: _rule(Impact.SAFE, "tags are updated in place"),
    Kind.FACILITY_LINES: _rule(
        Impact.SAFE, "only the runbook contains their names and contacts; attributes of things are listed separately"
    ),
    Kind.FACILITY_ALARMS: _rule(Impact.SAFE, "alarms are updated in place; devices do not notice"),
    Kind.REGISTRATION: _rule(
        Impact.SAFE,
        "things, keys and certificates stay: `fleet device adopt` hands those that are registered over, and has to run "
        "before the next apply",
    ),
    Kind.THINGS_ADDED: _rule(Impact.SAFE, "nothing that exists is touched"),
    Kind.THINGS_CHANGED: _rule(
        Impact.SAFE,
        "attributes are updated in the registry (in bulk: by `fleet device sync`); devices do not notice",
    ),
    Kind.THINGS_RETIRED: _rule(
        Impact.DESTROYS_DATA,
        "thing and certificate are deleted for good, and the device is locked out; readings so far stay until they "
        "expire",
    ),
    Kind.THINGS_REPLACED: _rule(
        Impact.BREAKS_IDENTITY,
        "another device takes the name: it needs a key and a certificate of its own, and the former one's has to be "
        "revoked; readings of both have the same name",
    ),
    Kind.THINGS_RENAMED: _rule(
        Impact.BREAKS_IDENTITY,
        "the name is the MQTT client id and part of the topic: each device needs its new name, topic and certificate; "
        "readings so far stay under the former names",
    ),
    Kind.THINGS_MOVED: _rule(
        Impact.BREAKS_IDENTITY,
        "the facility is part of the thing name, which is the MQTT client id: each device needs a new name, topic and "
        "certificate; readings so far stay under the former names",
    ),
    Kind.KEYS_CHANGED: _rule(
        Impact.BREAKS_IDENTITY,
        "their CSRs are of other keys: Terraform deletes the certificates and makes others; devices with the former "
        "keys are locked out",
    ),
    Kind.CERTIFICATES_REPLACED: _rule(
        Impact.BREAKS_IDENTITY,
        "their CSRs are others of the same keys: Terraform deletes the certificates and makes others; each device is "
        "locked out until it has its new one",
    ),
    Kind.CERTIFICATES_REMOVED: _rule(
        Impact.BREAKS_IDENTITY,
        "their CSRs are gone: Terraform deletes the certificates, and the devices are locked out",
    ),
    Kind.CERTIFICATES_REVIVED: _rule(
        Impact.BREAKS_IDENTITY,
        "their keys were revoked or retired, and the lines of their CSRs do not say so any more: devices locked out "
        "for good could connect again, and AWS IoT activates no revoked certificate",
    ),
    Kind.CERTIFICATES_ROTATED: _rule(
        Impact.RECONFIGURES,
        "each device gets a second certificate, of its next key; both work until the rotation is finished",
    ),
    Kind.ROTATIONS_FINISHED: _rule(
        Impact.SAFE, "the former certificate is deleted; each device has its second one, which stays as it is"
    ),
    Kind.KEYS_UNLOCKED: _rule(
        Impact.SAFE,
        "the lock has no line of their keys: they are new, or a line was removed, and then another key is not seen "
        "(compare the lock with its history); writing locks the keys that there are",
    ),
    Kind.LOCKS_UNPLANNED: _rule(
        Impact.SAFE, "the lock has lines of names that are not planned, which lock nothing; writing removes them"
    ),
    Kind.DOCUMENTS: _rule(
        Impact.SAFE,
        "other templates, the generator's or the project's own: names and things stay; review the difference",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Things that follow each other in the record."""

    first: str
    last: str
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return self.first
        number = re.search(r"[0-9]*$", self.last)
        is_numbered = number and self.first.startswith(self.last[: number.start()])
        return f"{self.first} … {number[0] if number and is_numbered else self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """One change that the manifest asks for.

    `count` things of `device_type` in `facility` (moved ones: to `to`, where they
    `become` others); a fleet-wide one has no facility. `is_by_serial`: its things have serials of their own. `groups`
    and `facilities` are how many it also touches, `groups_made` and `groups_gone` those that come and go with it.
    """

    kind: Kind
    facility: str | None = None
    to: str | None = None
    device_type: str | None = None
    count: int = 0
    things: tuple[Run, ...] = ()
    become: tuple[Run, ...] = ()
    detail: str = ""
    is_by_serial: bool = False
    groups: int = 0
    groups_made: int = 0
    groups_gone: int = 0
    facilities: int = 0

    @property
    def impact(self) -> Impact:
        """Impact of the change."""
        return RULES[self.kind].impact

    @property
    def reason(self) -> str:
        """Reason for the impact."""
        return RULES[self.kind].reason

    def touches(self, facilities: frozenset[str]) -> bool:
        """Return whether the change affects one of these facilities, or all."""
        return self.facility is None or not facilities.isdisjoint({self.facility, self.to})


def worst_first(changes: Iterable[PlannedChange]) -> tuple[PlannedChange, ...]:
    """Sort changes for reading: the worst first."""
    kinds = list(Kind)
    return tuple(
        sorted(
            changes,
            key=lambda it: (
                -it.impact.rank,
                it.facility or "",
                it.to or "",
                kinds.index(it.kind),
                it.device_type or "",
            ),
        )
    )
