"""Call AWS IoT below the account's quotas: paced, retried where that is safe, each kind of error distinguished.

Pacing is GCRA (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm): it spaces calls evenly and allows no burst;
a token bucket would allow twice the quota in its first second. The state is in a small SQLite file beside the
journals, so that parallel runs on one account share its quotas.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.diff.calls import QUOTAS
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.storage import connect

AHEAD_S = 0.05
"""How far calls may run ahead of an even pace; makes up for threads that are scheduled late."""
_TICK_S = 1e-6
"""Below the clock's resolution."""
SLOWER = 0.8
SLOWEST = 0.1
RECOVERY_PER_S = 0.01
"""After a throttle an API slows to 80 % of its pace, at most once a second, and recovers by 1 % a second."""

_SCHEMA = """CREATE TABLE IF NOT EXISTS rates
    (account TEXT, api TEXT, next REAL, factor REAL, since REAL, PRIMARY KEY (account, api)) WITHOUT ROWID"""


class Pacer:
    """Delay calls to their pace. APIs without an entry in `rates` (calls a second) are not delayed."""

    def __init__(
        self,
        path: Path | None,
        *,
        account: str,
        rates: Mapping[str, float],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`path` of the shared file; None keeps the pace within this process."""
        self.rates = dict(rates)
        self.calls: Counter[str] = Counter()
        self.throttles: Counter[str] = Counter()
        self._account, self._clock, self._sleep = account, clock, sleep
        # A pace that is lost with the machine is lost after more than a second: nothing is owed then.
        self._db = connect(path, synchronous="OFF", schema=_SCHEMA)
        self._writing = threading.Lock()
        self._turns = {api: threading.Lock() for api in rates}

    def close(self) -> None:
        self._db.close()

    def acquire(self, api: str) -> None:
        """Wait until the API may be called. Threads queue for each API, and only the first polls the clock."""
        if api in self.rates:
            with self._turns[api]:
                while (wait := self._take(api)) > 0:
                    self._sleep(wait)
        with self._writing:
            self.calls[api] += 1

    def throttled(self, api: str) -> None:
        """Slow the API down for all runs that share its pace."""
        now = self._clock()
        with self._writing:
            self.throttles[api] += 1
            if api not in self.rates:
                return
            self._db.execute("BEGIN IMMEDIATE")
            _, factor, since = self._row(api)
            if now - since >= 1 or since == 0:
                slower = max(SLOWEST, self._recovered(factor, since, now) * SLOWER)
                self._db.execute(
                    "UPDATE rates SET factor = ?, since = ?, next = max(next, ?) WHERE account = ? AND api = ?",
                    (slower, now, now, self._account, api),
                )
            self._db.execute("COMMIT")

    def _take(self, api: str) -> float:
        """Reserve the API's next slot and return 0, or return the seconds until one is free."""
        with self._writing:
            self._db.execute("BEGIN IMMEDIATE")
            next_, factor, since = self._row(api)
            now = self._clock()
            ahead = next_ - now - AHEAD_S
            # A clock that was set back must not stop a run for as long.
            if _TICK_S < ahead < 60:
                self._db.execute("ROLLBACK")
                return ahead
            interval = 1 / (self.rates[api] * self._recovered(factor, since, now))
            start = next_ if now < next_ < now + 60 else now
            self._db.execute(
                "UPDATE rates SET next = ? WHERE account = ? AND api = ?", (start + interval, self._account, api)
            )
            self._db.execute("COMMIT")
            return 0

    def _row(self, api: str) -> tuple[float, float, float]:
        query = "SELECT next, factor, since FROM rates WHERE account = ? AND api = ?"
        found: tuple[float, float, float] | None = self._db.execute(query, (self._account, api)).fetchone()
        if found is None:
            self._db.execute("INSERT INTO rates VALUES (?, ?, 0, 1, 0)", (self._account, api))
            return 0.0, 1.0, 0.0
        return found

    @staticmethod
    def _recovered(factor: float, since: float, now: float) -> float:
        return min(1.0, factor + max(0.0, now - since) * RECOVERY_PER_S)


THROTTLED = frozenset({"ThrottlingException", "TooManyRequestsException", "Throttling", "RequestLimitExceeded"})
REFUSED = frozenset(
    {
        *("AccessDeniedException", "UnauthorizedException", "UnrecognizedClientException", "ExpiredTokenException"),
        *("InvalidClientTokenId", "IncompleteSignatureException", "SignatureDoesNotMatch", "AccessDenied"),
        *("MissingAuthenticationToken", "InvalidSignatureException", "ForbiddenException"),
    }
)
"""Codes that no other try changes: the whole run stops."""

TRIES = 8
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0


class UnknownOutcomeError(Exception):
    """A call that must not be repeated has no answer: it may have been carried out."""


class IotCalls:
    """The account's AWS IoT. Its client must not try again by itself: only here is known what may be made twice."""

    def __init__(self, iot: Any, pacer: Pacer, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.iot = iot
        self.pacer = pacer
        self._sleep = sleep

    def call(self, api: str, **arguments: Any) -> dict[str, Any]:
        """Make a call that may be repeated. Raises a ClientError about its arguments, else EnvironmentFault."""
        return self._call(api, arguments, may_repeat=True)

    def call_once(self, api: str, **arguments: Any) -> dict[str, Any]:
        """Make a call that is not idempotent. Raises UnknownOutcomeError where its answer is missing."""
        return self._call(api, arguments, may_repeat=False)

    def call_if_exists(self, api: str, **arguments: Any) -> dict[str, Any] | None:
        """Make a call that may be repeated; None where its object does not exist."""
        try:
            return self.call(api, **arguments)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            return None

    def pages(self, api: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Make a list call until its last page."""
        while True:
            page = self.call(api, **arguments)
            yield page
            if token := page.get("nextToken"):
                arguments["nextToken"] = token
            elif marker := page.get("nextMarker"):
                arguments["marker"] = marker
            else:
                return

    def status_of(self, certificate_id: str) -> str | None:
        """Return the certificate's status in AWS IoT; None where it is gone."""
        found = self.call_if_exists("DescribeCertificate", certificateId=certificate_id)
        return str(found["certificateDescription"]["status"]) if found is not None else None

    def create_thing(self, thing: ThingRow) -> bool:
        """Create the thing; False where one with other attributes or of another type has its name."""
        attributes = {"attributes": thing.attributes}
        try:
            self.call("CreateThing", thingName=thing.name, thingTypeName=thing.thing_type, attributePayload=attributes)
        except ClientError as error:
            if code_of(error) != "ResourceAlreadyExistsException":
                raise
            return False
        return True

    def _call(self, api: str, arguments: dict[str, Any], *, may_repeat: bool) -> dict[str, Any]:
        failures = throttles = 0
        while True:
            self.pacer.acquire(api)
            try:
                answer: dict[str, Any] = getattr(self.iot, xform_name(api))(**arguments)
                return answer
            except NoCredentialsError:
                raise EnvironmentFault("there are no AWS credentials", hint="set AWS_PROFILE, or log in") from None
            except EndpointConnectionError as error:
                failure: Exception = error  # nothing was sent
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
                if code in THROTTLED or status == 429:
                    self.pacer.throttled(api)
                    throttles += 1
                    self._sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(throttles, 6)))
                    continue
                if code in REFUSED:
                    raise EnvironmentFault(
                        f"AWS refuses {api}: {message_of(error)}",
                        hint="check credentials and rights, then go on with --resume",
                    ) from None
                if status < 500:
                    raise
                if not may_repeat:
                    raise UnknownOutcomeError(str(error)) from None
                failure = error
            except BotoCoreError as error:
                if not may_repeat:
                    raise UnknownOutcomeError(str(error)) from None
                failure = error
            failures += 1
            if failures >= TRIES:
                raise EnvironmentFault(
                    f"AWS IoT does not answer {api} after {TRIES} tries: {failure}",
                    hint="check the network, then go on with --resume",
                ) from None
            self._sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**failures))


def code_of(error: ClientError) -> str:
    """Return the error's code, such as ResourceNotFoundException."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """Return AWS's message."""
    found = error.response.get("Error", {})
    return str(found.get("Message") or found.get("Code") or error)


HEAD_ROOM = 0.05
"""The share of each quota that is left to other users of the account."""

_NAME = re.compile(r"(\w+) API TPS")
"""The names in Service Quotas, such as `CreateThing API TPS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Calls a second by API; `is_live` where the account itself was asked."""

    per_second: Mapping[str, float]
    is_live: bool

    def rates(self) -> dict[str, float]:
        """Return the pace to keep: below the quota by the head-room."""
        return {api: quota * (1 - HEAD_ROOM) for api, quota in self.per_second.items()}


def read_quotas(service_quotas: Any) -> Quotas:
    """Return the quotas in force; where they cannot be read, AWS's defaults."""
    found: dict[str, float] = {}
    try:
        for page in service_quotas.get_paginator("list_service_quotas").paginate(ServiceCode="iotcore"):
            for quota in page["Quotas"]:
                name = _NAME.fullmatch(str(quota.get("QuotaName", "")))
                if name and name[1] in QUOTAS and quota.get("Value", 0) > 0:
                    found[name[1]] = float(quota["Value"])
    except (BotoCoreError, ClientError):
        found = {}
    return Quotas(per_second={api: float(value) for api, value in QUOTAS.items()} | found, is_live=bool(found))


def calls_for(*, devices: int, certificates: int, policy_on: str, groups: int) -> dict[str, int]:
    """Count the calls of each API for so many devices, of which `certificates` bring a certificate."""
    policies = devices if policy_on == "certificate" else groups
    counts = {
        "CreateThing": devices,
        "CreateCertificateFromCsr": devices - certificates,
        "RegisterCertificateWithoutCA": certificates,
        "AttachThingPrincipal": devices,
        "AddThingToThingGroup": devices,
        "AttachPolicy": policies if devices else 0,
    }
    return {api: count for api, count in counts.items() if count}


def least_seconds(calls: Mapping[str, int], rates: Mapping[str, float]) -> tuple[float, str | None]:
    """Return the seconds that the slowest API needs, and which it is; quotas of different APIs are used at
    the same time."""
    times = [(count / rates[api], api) for api, count in calls.items() if api in rates]
    return max(times, default=(0.0, None))
