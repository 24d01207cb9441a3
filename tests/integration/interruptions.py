"""Deployments that signals end and faults of AWS delay."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fleet_iot.operations.local.aws import LocalAws, applied_stacks, count_resources
from fleet_iot.operations.local.faults import FILE, LOG
from tests.integration.plant import Interrupted, Plant

SEED = int(os.environ.get("FLEET_KILLS_SEED", "1"))
INTERRUPTIONS = bool(int(os.environ.get("FLEET_INTERRUPTIONS", "1")))
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
ENDED = {"SIGKILL": {0, -9}, "SIGINT": {0, 1, -2}, "SIGTERM": {0, 1, -15}}
"""Exit codes by signal; a negative one where it came before the command had begun, 0 where it came too late."""

Fault = Mapping[str, Any]


def fault(service: str, match: str, code: str, status: int = 400, times: int = 1) -> Fault:
    return {"service": service, "match": match, "code": code, "status": status, "times": times}


TRANSIENT = (
    fault("iot", "^POST /thing-groups/", "ConflictingResourceUpdateException", 409, 2),
    fault("iam", "Action=CreateRole", "Throttling", 400, 3),
    fault("iot", "^POST /things/", "ThrottlingException", 400, 3),
    fault("kinesis", "CreateStream", "InternalFailure", 500, 2),
    fault("sns", "Action=CreateTopic", "ServiceUnavailable", 503, 2),
    fault("dynamodb", "CreateTable", "ThrottlingException", 400, 2),
    fault("s3", "^PUT /[^/]+ ", "SlowDown", 503, 2),
    fault("iot", "^POST /policies/", "InternalFailureException", 500, 2),
    fault("logs", "CreateLogGroup", "ServiceUnavailableException", 503, 2),
)
"""Twenty failures after which AWS asks to try again: the first ones need a new plan, the provider retries others."""

REAL = (
    fault("iam", "Action=CreateRole", "AccessDenied", 403),
    fault("iot", "^POST /thing-types/", "LimitExceededException", 410),
    fault("kinesis", "CreateStream", "InvalidArgumentException"),
    fault("iot", "^POST /policies/", "MalformedPolicyException"),
    fault("iot", "^POST /thing-groups/", "ResourceAlreadyExistsException", 409),
)
"""Five errors that another try does not resolve."""


def inject(local: LocalAws, faults: Sequence[Fault]) -> None:
    """Let the local AWS answer the next requests with these faults."""
    staged = local.folder / f".{FILE}"
    staged.write_text(json.dumps(list(faults)))
    staged.replace(local.folder / FILE)


def injected(local: LocalAws) -> list[str]:
    """Return what was answered so far, as SERVICE CODE."""
    path = local.folder / LOG
    return path.read_text().splitlines() if path.exists() else []


def count(local: LocalAws) -> int:
    """Count the resources in the states."""
    return sum(count_resources(stack) for stack in applied_stacks(local))


def interrupt(plant: Plant, by: signal.Signals, *options: str, resources: int = 0, seconds: float = 0.0) -> Interrupted:
    """Begin a deployment, and end it when there are so many resources, after so many seconds."""
    begun = time.monotonic()
    local = plant.local
    with plant.start("deploy", *options) as run:
        while run.poll() is None and time.monotonic() < begun + 600:
            if count(local) >= resources and time.monotonic() >= begun + seconds:
                run.send_signal(by)
                break
            time.sleep(0.05)
        try:
            _, said = run.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            run.kill()
            raise
    return Interrupted(by=by.name, resources=count(local), exit_code=run.returncode, said=said)


def interruptions(plant: Plant) -> tuple[Interrupted, ...]:
    """Interrupt three deployments, one by each signal, while AWS delays them."""
    inject(plant.local, TRANSIENT[:2])
    moments, options = random.Random(SEED), ("--facility", "sg-01")
    killed = interrupt(plant, SIGNALS[0], *options, resources=moments.randrange(5, 80))
    return killed, *(interrupt(plant, by, *options, seconds=moments.uniform(0, 30)) for by in SIGNALS[1:])


def is_orderly(each: Interrupted) -> bool:
    """Whether a deployment ended as its signal asks for; a command that has begun prints no traceback."""
    has_begun = "provider from" in each.said
    return each.exit_code in ENDED[each.by] and not (has_begun and "Traceback" in each.said)
