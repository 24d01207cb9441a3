"""Calls to AWS IoT: paced, tried again where that is safe, and each kind of error told apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.registry.pacing import Pacer
from fleet_iot.operations.registry.planned import PlannedThing

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
    """Nobody knows whether a call that must not be made twice was carried out."""


class IotCalls:
    """The account's AWS IoT. Its client must not try again by itself: only here is known what may be made twice."""

    def __init__(self, iot: Any, pacer: Pacer, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.iot = iot
        self.pacer = pacer
        self._sleep = sleep

    def call(self, api: str, **arguments: Any) -> dict[str, Any]:
        """A call that may be made again. Raises the ClientError that is about its arguments, else EnvironmentFault."""
        return self._call(api, arguments, may_repeat=True)

    def call_once(self, api: str, **arguments: Any) -> dict[str, Any]:
        """A call that makes another thing each time. Raises UnknownOutcomeError where an answer is missing."""
        return self._call(api, arguments, may_repeat=False)

    def status_of(self, certificate_id: str) -> str | None:
        """The certificate's status in AWS IoT; None where it is gone."""
        try:
            found = self.call("DescribeCertificate", certificateId=certificate_id)["certificateDescription"]
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            return None
        return str(found["status"])

    def create_thing(self, thing: PlannedThing) -> bool:
        """Whether the thing is there as planned: not where another one, of other attributes or type, has its name."""
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
    """The error's code, such as ResourceNotFoundException."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """What AWS says."""
    found = error.response.get("Error", {})
    return str(found.get("Message") or found.get("Code") or error)
