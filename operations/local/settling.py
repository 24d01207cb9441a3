"""Tells the faults of Terraform that come from AWS IoT's slow attachments, which trying again mends, from all others.

AWS attaches and detaches principals asynchronously. The AWS provider reads an attachment back at once and, where it
finds none, fails and marks it as tainted; and it deletes things, certificates and policies once, while AWS still counts
them as attached. https://docs.aws.amazon.com/iot/latest/apireference/API_DetachThingPrincipal.html
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

PAUSES_S = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
"""Seconds before each new try. A policy may count as attached for five minutes after it was detached, the longest wait.
https://docs.aws.amazon.com/iot/latest/apireference/API_DetachPolicy.html"""

READ_TOO_EARLY = re.compile(
    r"reading IoT (?P<what>(?:Thing Principal|Policy) Attachment) \(.*\): (?:empty result|couldn't find resource)"
)
NOT_YET_DETACHED = re.compile(
    r"deleting IoT (?:Thing|Certificate|Policy) \(.*\bDelete(?P<what>Thing|Certificate|Policy),.*"
    r"(?:InvalidRequestException: .*\bstill attached to one or more principals"
    r"|DeleteConflictException: .*(?:\bmust be detached before deletion|\bis attached to one or more\b))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TerraformError:
    """An error as Terraform's `-json` reports it; `address` is '' where it concerns no resource."""

    address: str
    summary: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """What AWS had not finished when Terraform asked: `tainted` are addresses that exist but were read too early."""

    tainted: tuple[str, ...]
    said: str


def unsettled(errors: Iterable[TerraformError]) -> Unsettled | None:
    """Read a failed run's errors; None where trying again would not mend every one of them."""
    tainted: list[str] = []
    counts: Counter[str] = Counter()
    for error in errors:
        text = " ".join(f"{error.summary} {error.detail}".split())
        early, late = READ_TOO_EARLY.match(text), NOT_YET_DETACHED.match(text)
        if early and error.address:
            tainted.append(error.address)
            counts[f"{early['what']} read back too early"] += 1
        elif late:
            counts[f"{late['what']} not yet detached"] += 1
        else:
            return None
    if not counts:
        return None
    return Unsettled(
        tainted=tuple(tainted), said=", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))
    )
