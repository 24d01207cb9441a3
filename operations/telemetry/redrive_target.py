"""The deployed processor as replay needs it: the queue of its failures, its stream, and a way to invoke it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local.aws import LocalAws, RoleSession, load
from fleet_iot.operations.local.function_host import (
    FunctionFailedError,
    FunctionHost,
    deployed_function,
    unpack_function,
)
from fleet_iot.operations.telemetry.redrive import FunctionError, Invoke

FUNCTION = "function-sensor-processor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where replay reads and what it invokes."""

    sqs: Any
    kinesis: Any
    invoke: Invoke
    queue_url: str
    region: str


@contextmanager
def local_target(folder: Path, *, suffix: str) -> Iterator[Target]:
    """The local AWS in `folder`; the function runs in a process of its own, with its role."""
    local = load(folder)
    client = local.client("lambda")
    function = deployed_function(client, f"{FUNCTION}-{suffix}")
    code = local.folder / "function-replay"
    unpack_function(local.fetch(client.get_function(FunctionName=function.name)["Code"]["Location"]), code)
    host = FunctionHost(
        function,
        code=code,
        base_environment=_base_environment(local) | {"TMPDIR": str(local.folder / "tmp")},
        credentials=RoleSession(local, function.role_arn, session_name=f"{function.name}-replay").environment,
        log=local.logs / "function-replay.log",
    )

    def invoke(event: dict[str, Any]) -> Any:
        try:
            return host.invoke(event)
        except FunctionFailedError as error:
            raise FunctionError(str(error)) from error

    try:
        yield _target(local.client, client, function=function.name, invoke=invoke, region=local.region)
    finally:
        host.close()


def aws_target(*, suffix: str) -> Target:
    """AWS itself, with the credentials and region of the environment."""
    session = boto3.session.Session()
    # A full batch may take as long as the function may run, which is more than botocore waits.
    client = session.client("lambda", config=Config(read_timeout=180, retries={"total_max_attempts": 1}))
    function = f"{FUNCTION}-{suffix}"

    def invoke(event: dict[str, Any]) -> Any:
        answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        document = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError"):
            raise FunctionError(f"{answer['FunctionError']}: {document}")
        return document

    return _target(session.client, client, function=function, invoke=invoke, region=session.region_name)


def _target(clients: Callable[[str], Any], client: Any, *, function: str, invoke: Invoke, region: str) -> Target:
    mappings = client.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    queues = [arn for mapping in mappings if ":sqs:" in (arn := _failures(mapping))]
    if not queues:
        raise EnvironmentFault(
            f"{function} has no event source mapping with a queue for its failures", hint="apply the platform first"
        )
    sqs = clients("sqs")
    queue_url = sqs.get_queue_url(QueueName=queues[0].rpartition(":")[2])["QueueUrl"]
    return Target(sqs=sqs, kinesis=clients("kinesis"), invoke=invoke, queue_url=queue_url, region=region)


def _failures(mapping: Mapping[str, Any]) -> str:
    return str(mapping.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", ""))


def _base_environment(local: LocalAws) -> dict[str, str]:
    return {k: v for k, v in local.environment().items() if k.startswith("AWS_") or k.upper() == "NO_PROXY"}
