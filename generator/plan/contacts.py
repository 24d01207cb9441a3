"""Works out who is called, for a plant and for each of its production lines."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.generator.manifest.models import Contact, Facility, Line


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPlan:
    """Who is called when something is wrong."""

    name: str
    email: str | None
    phone: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """A production line; `contact` is the facility's where it has none of its own."""

    id: str
    name: str
    contact: ContactPlan | None


def contact_plan(contact: Contact | None) -> ContactPlan | None:
    """The contact of a facility or a line."""
    return ContactPlan(name=contact.name, email=contact.email, phone=contact.phone) if contact else None


def line_plan(id_: str, line: Line, facility: Facility) -> LinePlan:
    """The line of a facility, under its id where it has no name."""
    return LinePlan(id=id_, name=line.name or id_, contact=contact_plan(line.contact or facility.contact))
