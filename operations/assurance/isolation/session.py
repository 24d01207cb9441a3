"""Decides what a connection may do: from policies, the connection, and a reading of what AWS leaves open.

Allowed is what a statement allows and none denies
(https://docs.aws.amazon.com/iot/latest/developerguide/iot-authorization.html). Where the guides leave something open,
each possibility is a `Reading`: a claim is proven only where it is true in every one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from fleet_iot.operations.assurance.isolation.policy import (
    Context,
    Literal,
    Pattern,
    Policy,
    Resource,
    Statement,
    Variable,
    canonical_key,
    exact_text,
    holds,
    regex_of,
    split_wildcards,
)

CLIENT_ID = "iot:clientid"
THING_NAME = "iot:connection.thing.thingname"
IS_ATTACHED = "iot:connection.thing.isattached"
_CERTIFICATE_WILDCARDS = frozenset("*$+?#")
_CERTIFICATE_LENGTH = 1024
"""Longer values and those with wildcards are not inserted: "X.509 certificate policy variable limitations",
https://docs.aws.amazon.com/iot/latest/developerguide/cert-policy-variables.html"""


class Act(NamedTuple):
    """One action on one resource, by its ARN."""

    action: str
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One interpretation of what the guides leave open.

    `name_from_certificate`: a certificate that belongs to one thing gives the thing, whatever the client id is
    (exclusive attachment); otherwise the client id has to be the thing's name.
    `leaves_text`: a variable without a value stays in the resource as text; otherwise the resource matches nothing.
    `live_wildcards`: `*` and `?` in a variable's value are wildcards; otherwise they are plain characters.
    """

    name_from_certificate: bool
    leaves_text: bool
    live_wildcards: bool


READINGS = tuple(
    Reading(name_from_certificate=one, leaves_text=two, live_wildcards=three)
    for one, two, three in product((False, True), repeat=3)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A connection under a certificate that belongs to `things`; `client_id` is None where it speaks HTTPS.

    `types` and `attributes` are those of the things, by their names; `certificate` has the variables that come from
    the certificate itself.
    """

    client_id: str | None
    things: tuple[str, ...]
    types: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    certificate: Mapping[str, str] = field(default_factory=dict)


COMMON_NAME = "iot:Certificate.Subject.CommonName"


def own_session(thing: str, *, common_name: str | None = None) -> Session:
    """Return a thing's rightful connection; the subject of its certificate is what its maker wrote there."""
    return Session(client_id=thing, things=(thing,), certificate={COMMON_NAME: common_name or thing})


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """The rights of one connection; `exact` are the acts allowed by resources without a wildcard."""

    exact: frozenset[tuple[str, str]]
    wide: tuple[tuple[str, re.Pattern[str]], ...]
    denied: tuple[tuple[str, re.Pattern[str]], ...]

    def allows(self, act: Act) -> bool:
        """Return whether the act is allowed and not denied."""
        return (act in self.exact or _matches(self.wide, act)) and not _matches(self.denied, act)


def _matches(patterns: tuple[tuple[str, re.Pattern[str]], ...], act: Act) -> bool:
    return any(action == act.action and regex.fullmatch(act.resource) for action, regex in patterns)


def contexts(session: Session) -> tuple[tuple[Context, Reading], ...]:
    """Return the context of the connection in each reading that makes a difference."""
    found: dict[tuple[object, ...], tuple[Context, Reading]] = {}
    for reading in READINGS:
        context = context_of(session, reading)
        has_wildcard = any("*" in value or "?" in value for values in context.values() for value in values)
        key = (tuple(context.items()), reading.leaves_text, reading.live_wildcards and has_wildcard)
        found.setdefault(key, (context, reading))
    return tuple(found.values())


def thing_of(session: Session, *, name_from_certificate: bool) -> str | None:
    """Return the thing that AWS identifies; over HTTPS none (thing policy variables are MQTT's only)."""
    if session.client_id is None:
        return None
    if name_from_certificate and len(session.things) == 1:
        return session.things[0]
    return session.client_id if session.client_id in session.things else None


def context_of(session: Session, reading: Reading) -> Context:
    """Return the context of the connection in one reading, by condition key."""
    context: dict[str, tuple[str, ...]] = {
        canonical_key(key): (value,) for key, value in session.certificate.items() if _is_put_in(value)
    }
    if session.client_id is None:
        return context
    thing = thing_of(session, name_from_certificate=reading.name_from_certificate)
    context[CLIENT_ID] = (session.client_id,)
    context[IS_ATTACHED] = ("true" if thing is not None else "false",)
    if thing is not None:
        context[THING_NAME] = (thing,)
        if thing in session.types:
            context["iot:connection.thing.thingtypename"] = (session.types[thing],)
        for key, value in session.attributes.get(thing, {}).items():
            context[f"iot:connection.thing.attributes[{key}]"] = (value,)
    return context


def _is_put_in(value: str) -> bool:
    return len(value) <= _CERTIFICATE_LENGTH and not _CERTIFICATE_WILDCARDS & set(value)


def permissions(policies: Iterable[Policy], context: Context, reading: Reading) -> Permissions:
    """Return what the policies allow in this context."""
    exact: set[tuple[str, str]] = set()
    wide: list[tuple[str, re.Pattern[str]]] = []
    denied: list[tuple[str, re.Pattern[str]]] = []
    for policy in policies:
        for statement in policy.statements:
            if not all(holds(condition, context) for condition in statement.conditions):
                continue
            for pattern in _patterns(statement, context, reading):
                text = exact_text(pattern)
                if statement.is_allow and text is not None:
                    exact.update((each, text) for each in statement.actions)
                else:
                    (wide if statement.is_allow else denied).extend(
                        (each, regex_of(pattern)) for each in statement.actions
                    )
    return Permissions(exact=frozenset(exact), wide=tuple(wide), denied=tuple(denied))


def _patterns(statement: Statement, context: Context, reading: Reading) -> Iterable[Pattern]:
    for resource in statement.resources:
        pattern = _filled(resource, context, reading)
        if pattern is not None:
            yield pattern


def _filled(resource: Resource, context: Context, reading: Reading) -> Pattern | None:
    """Insert the variables into a resource; None where one has no value and is not left as text."""
    pattern: list[Pattern] = []
    for part in resource.parts:
        if isinstance(part, Variable):
            values = context.get(part.name)
            if values is None and not reading.leaves_text:
                return None
            value = part.text if values is None else values[0]
            is_live = reading.live_wildcards and values is not None
            pattern.append(_split(value) if is_live else (value,))
        else:
            pattern.append((part.character,) if isinstance(part, Literal) else _split(part))
    return tuple(element for part in pattern for element in part)


_split = lru_cache(maxsize=4096)(split_wildcards)
