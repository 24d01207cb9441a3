"""Evaluates many connections under the same policies, without doing the same work for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleet_iot.operations.assurance.isolation.fleet import Realm
from fleet_iot.operations.assurance.isolation.policy import Policy, Variable
from fleet_iot.operations.assurance.isolation.session import (
    CLIENT_ID,
    Act,
    Permissions,
    Session,
    contexts,
    permissions,
    thing_of,
)

_KEPT = 64
_REGISTRY = ("iot:connection.thing.thingtypename", "iot:connection.thing.attributes[")


class Evaluator:
    """The policies of one certificate; an act is allowed where any reading allows it.

    Connections that differ only in what no policy asks for share their answer: of 50 client ids under one certificate,
    policies that never look at the client id see one.
    """

    def __init__(self, policies: tuple[Policy, ...]) -> None:
        self._policies = policies
        self._kept: dict[tuple[object, ...], tuple[Permissions, ...]] = {}
        keys = _asked_for(policies)
        self._asks_client_id = CLIENT_ID in keys
        self._asks_certificate = any(key.startswith("iot:certificate.") for key in keys)
        self._asks_registry = any(key.startswith(_REGISTRY) for key in keys)

    def permissions(self, session: Session) -> tuple[Permissions, ...]:
        """What the connection may do, in each reading that makes a difference."""
        key = (
            thing_of(session, name_from_certificate=False),
            thing_of(session, name_from_certificate=True),
            session.client_id if self._asks_client_id else session.client_id is None,
            tuple(session.certificate.items()) if self._asks_certificate else None,
            repr((session.types, session.attributes)) if self._asks_registry else None,
        )
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            found = tuple({permissions(self._policies, *each): None for each in contexts(session)})
            self._kept[key] = found
        return found

    def admitted(self, realm: Realm, sessions: Iterable[Session]) -> list[Session]:
        """Those of the connections that any reading lets in."""
        return [
            session
            for session in sessions
            for act in (Act("iot:Connect", realm.arn("client", session.client_id or "")),)
            if any(each.allows(act) for each in self.permissions(session))
        ]

    def admitted_names(self, realm: Realm, thing: str, names: Sequence[str]) -> list[str]:
        """Those of the client ids, none of them the thing's own, that any reading lets in under its certificate."""
        if self._asks_client_id:
            sessions = (Session(client_id=name, things=(thing,)) for name in names)
            return [str(session.client_id) for session in self.admitted(realm, sessions)]
        # Policies that do not look at the client id say the same of all: the names need looking up alone.
        permitted = self.permissions(Session(client_id="", things=(thing,)))
        acts = {Act("iot:Connect", realm.arn("client", name)): name for name in names}
        return [name for act, name in acts.items() if any(each.allows(act) for each in permitted)]


def _asked_for(policies: tuple[Policy, ...]) -> set[str]:
    """The keys that the policies' variables and conditions look at."""
    statements = [statement for policy in policies for statement in policy.statements]
    resources = [resource for statement in statements for resource in statement.resources]
    variables = {part.name for resource in resources for part in resource.parts if isinstance(part, Variable)}
    return variables | {condition.key for statement in statements for condition in statement.conditions}
