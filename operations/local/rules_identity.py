"""The rules engine's own identity at the broker: a thing, a certificate and a policy that lets it hear the rules."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalAws
from fleet_iot.operations.local.certificates import write_key_and_request
from fleet_iot.operations.local.overrides import REPUBLISH_TOPIC

THING = "local-rules-engine"
POLICY = "policy-local-rules-engine"

STILL_ATTACHED = frozenset({"DeleteConflictException", "InvalidRequestException"})
DETACHING_SECONDS = 330.0
"""AWS takes up to five minutes for a policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesIdentity:
    """The files that the rules engine connects with; the key never leaves the local AWS's folder."""

    key: Path
    certificate: Path


def ensure_identity(local: LocalAws) -> RulesIdentity:
    """The identity, made through the public API where it is not there yet."""
    identity = RulesIdentity(key=local.folder / "rules-engine.key", certificate=local.folder / "rules-engine.pem")
    if identity.certificate.exists():
        return identity
    iot = local.client("iot")
    request = write_key_and_request(key=identity.key, common_name=THING)
    made = iot.create_certificate_from_csr(certificateSigningRequest=request, setAsActive=True)
    iot.create_thing(thingName=THING)
    with suppress(iot.exceptions.ResourceAlreadyExistsException):
        iot.create_policy(policyName=POLICY, policyDocument=json.dumps(_policy(local.region)))
    iot.attach_policy(policyName=POLICY, target=made["certificateArn"])
    iot.attach_thing_principal(thingName=THING, principal=made["certificateArn"])
    identity.certificate.write_text(made["certificatePem"])
    return identity


def remove_identity(local: LocalAws) -> None:
    """Take the identity out of the registry again, in AWS's order, so that a destroyed estate is empty."""
    iot = local.client("iot")
    with suppress(iot.exceptions.ResourceNotFoundException):
        for principal in iot.list_thing_principals(thingName=THING)["principals"]:
            certificate = principal.rpartition("/")[2]
            iot.detach_policy(policyName=POLICY, target=principal)
            iot.detach_thing_principal(thingName=THING, principal=principal)
            iot.update_certificate(certificateId=certificate, newStatus="INACTIVE")
            _when_detached(iot.delete_certificate, certificateId=certificate)
        _when_detached(iot.delete_thing, thingName=THING)
        _when_detached(iot.delete_policy, policyName=POLICY)
    (local.folder / "rules-engine.pem").unlink(missing_ok=True)
    (local.folder / "rules-engine.key").unlink(missing_ok=True)


def _when_detached(delete: Callable[..., Any], **named: str) -> None:
    """Delete what was just detached: until that is done, AWS refuses."""
    deadline = time.monotonic() + DETACHING_SECONDS
    while True:
        try:
            delete(**named)
            return
        except ClientError as error:
            if error.response["Error"]["Code"] not in STILL_ATTACHED or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _policy(region: str) -> dict[str, Any]:
    prefix = f"arn:aws:iot:{region}:{ACCOUNT_ID}"
    allowed = {
        "iot:Connect": f"{prefix}:client/{THING}",
        "iot:Subscribe": f"{prefix}:topicfilter/{REPUBLISH_TOPIC}/+",
        "iot:Receive": f"{prefix}:topic/{REPUBLISH_TOPIC}/*",
    }
    statements = [{"Effect": "Allow", "Action": action, "Resource": on} for action, on in allowed.items()]
    return {"Version": "2012-10-17", "Statement": statements}
