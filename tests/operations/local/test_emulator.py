"""The local AWS as it runs: started, used over mutual TLS, seen to die, and gone without a trace."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import ssl
import stat
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from botocore.exceptions import ClientError
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local import emulator
from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalAws, load, local_status
from fleet_iot.operations.local.certificates import write_key_and_request
from fleet_iot.operations.local.deployment import start_services, stop_services, wait_until_drained
from fleet_iot.operations.processes import is_running, stop_children
from tests.operations.local import intruder

pytestmark = pytest.mark.local_aws

Start = Callable[..., LocalAws]

REGION = "ap-southeast-1"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT_ID}:stream/stream-t"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:queue-t"
ROOT = f"arn:aws:iam::{ACCOUNT_ID}:root"
THING = "sg-01-press-monitor-0001-dev"
TOPIC = f"dt/mfg/sg-01/press-monitor/{THING}/telemetry"
SQL = "SELECT encode(*, 'base64') AS raw, clientid() AS client_id, principal() AS principal, topic(5) AS thing, "
SQL += "timestamp() AS received_at, traceid() AS trace_id FROM 'dt/mfg/sg-01/+/+/telemetry'"

FUNCTION = """
import base64, boto3, json, os

def handle(event, context):
    for record in event["Records"]:
        message = json.loads(base64.b64decode(record["kinesis"]["data"]))
        payload = base64.b64decode(message["raw"]).decode()
        if payload == "poison":
            raise ValueError(payload)
        boto3.client("s3").put_object(Bucket="bucket-t", Key=f"seen/{payload[:20]}", Body=b"")
"""


def make_role(local: LocalAws, name: str, **allowed: str) -> str:
    """A role that root may assume and that may do what is given: actions, joined by `_`, on a resource."""
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": ROOT}}
    statements = [
        {"Effect": "Allow", "Action": actions.replace("__", ":").split("_"), "Resource": on}
        for actions, on in allowed.items()
    ]
    iam = local.client("iam")
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"][
        "Arn"
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
    return arn


def make_platform(local: LocalAws) -> None:
    """By hand, the least that a message passes: stream, bucket, queue, rule, function and its disabled mapping."""
    local.client("kinesis").create_stream(StreamName="stream-t", ShardCount=1)
    local.client("s3").create_bucket(Bucket="bucket-t", CreateBucketConfiguration={"LocationConstraint": REGION})
    local.client("sqs").create_queue(QueueName="queue-t")
    rule_role = make_role(local, "role-rule", kinesis__PutRecord=STREAM)
    error_role = make_role(local, "role-errors", s3__PutObject="arn:aws:s3:::bucket-t/iot-rule-errors/*")
    function_role = make_role(
        local,
        "role-function",
        **{"kinesis__GetRecords_kinesis__GetShardIterator_kinesis__ListShards": STREAM},
        s3__PutObject="arn:aws:s3:::bucket-t/seen/*",
        sqs__SendMessage=QUEUE,
    )
    error_action = {
        "bucketName": "bucket-t",
        "key": "iot-rule-errors/${timestamp()}-${traceid()}",
        "roleArn": error_role,
    }
    payload: dict[str, Any] = {
        "sql": SQL,
        "awsIotSqlVersion": "2016-03-23",
        "actions": [
            {"kinesis": {"roleArn": rule_role, "streamName": "stream-t", "partitionKey": "${clientid()}"}},
            {"republish": {"roleArn": rule_role, "topic": "local/rules/rule_t", "qos": 1}},
        ],
        "errorAction": {"s3": error_action},
    }
    local.client("iot").create_topic_rule(ruleName="rule_t", topicRulePayload=payload)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as contents:
        contents.writestr("handler.py", FUNCTION)
    local.client("lambda").create_function(
        FunctionName="function-t",
        Runtime="python3.11",
        Role=function_role,
        Handler="handler.handle",
        Code={"ZipFile": archive.getvalue()},
    )
    local.client("lambda").create_event_source_mapping(
        EventSourceArn=STREAM,
        FunctionName="function-t",
        StartingPosition="TRIM_HORIZON",
        Enabled=False,
        BatchSize=10,
        MaximumRetryAttempts=1,
        BisectBatchOnFunctionError=True,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        DestinationConfig={"OnFailure": {"Destination": QUEUE}},
    )


def make_device(local: LocalAws, folder: Path) -> mqtt.Client:
    """A device with a certificate of its own that may publish its own telemetry; connected."""
    iot, key, certificate = local.client("iot"), folder / "device.key", folder / "device.pem"
    request = write_key_and_request(key=key, common_name=THING)
    made = iot.create_certificate_from_csr(certificateSigningRequest=request, setAsActive=True)
    certificate.write_text(made["certificatePem"])
    arn = f"arn:aws:iot:{REGION}:{ACCOUNT_ID}"
    statements = [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{arn}:client/{THING}"},
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"{arn}:topic/{TOPIC}"},
    ]
    policy = {"Version": "2012-10-17", "Statement": statements}
    iot.create_policy(policyName=f"policy-{THING}", policyDocument=json.dumps(policy))
    iot.attach_policy(policyName=f"policy-{THING}", target=made["certificateArn"])
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=THING, protocol=MQTTProtocolVersion.MQTTv5)
    context = ssl.create_default_context(cafile=str(local.mqtt_authority))
    context.load_cert_chain(str(certificate), str(key))
    client.tls_set_context(context)
    client.connect(local.mqtt_host, local.mqtt_port)
    client.loop_start()
    return client


def keys(local: LocalAws, prefix: str) -> list[str]:
    """The keys below a prefix of the bucket, without it."""
    found = local.client("s3").list_objects_v2(Bucket="bucket-t", Prefix=prefix).get("Contents", [])
    return [each["Key"].removeprefix(prefix) for each in found]


def test_a_message_goes_from_a_device_through_rule_and_stream_to_the_function(start: Start, tmp_path: Path) -> None:
    """Over mutual TLS, nested as deep as it likes; a lost answer repeats it, only poison ends in the failure queue."""
    local = start()
    make_platform(local)
    local = start_services(local, redeliver=0.2, seed=1)
    device = make_device(local, tmp_path)
    deep = "[" * 5000 + "]" * 5000
    for payload in (*(f"{number:02}" for number in range(20)), "poison", "20", deep):
        device.publish(TOPIC, payload, qos=1).wait_for_publish(10)
    device.loop_stop()
    device.disconnect()
    drained = wait_until_drained(local, seconds=40)
    assert keys(local, "seen/") == [*(f"{number:02}" for number in range(21)), deep[:20]]
    assert (drained.put, drained.errors, drained.read) == (23, 0, 23)
    assert (drained.done, drained.discarded) == (22, 1)
    assert drained.redelivered > 0
    url = local.client("sqs").get_queue_url(QueueName="queue-t")["QueueUrl"]
    messages = local.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    batches = [json.loads(message["Body"])["KinesisBatchInfo"] for message in messages]
    assert [batch["batchSize"] for batch in batches] == [1]
    lose_the_session(local, device, certificate=tmp_path / "device.pem")
    refuse_kinesis_and_publish(local)
    stand_still_and_go_on(local)


def lose_the_session(local: LocalAws, device: mqtt.Client, *, certificate: Path) -> None:
    """A device whose certificate becomes INACTIVE is disconnected soon, and does not come in again."""
    connected, gone = threading.Event(), threading.Event()
    device.on_connect = lambda _client, _data, _flags, reason, _properties: reason.is_failure or connected.set()
    device.on_disconnect = lambda *_: gone.set()
    device.reconnect()
    device.loop_start()
    assert connected.wait(10)
    identifier = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
    gone.clear()
    local.client("iot").update_certificate(certificateId=identifier, newStatus="INACTIVE")
    assert gone.wait(20)
    connected.clear()
    assert not connected.wait(3)
    assert not device.is_connected()
    device.loop_stop()


def refuse_kinesis_and_publish(local: LocalAws) -> None:
    """Withdraw the rule role's right to put, and see the device's own bytes go to the error action."""
    local.client("iam").delete_role_policy(RoleName="role-rule", PolicyName="p")
    local.client("iot-data").publish(topic=TOPIC, qos=1, payload=b"refused")
    assert wait_until_drained(local, seconds=30).errors == 1
    (error,) = keys(local, "iot-rule-errors/")
    document = json.loads(
        local.client("s3").get_object(Bucket="bucket-t", Key=f"iot-rule-errors/{error}")["Body"].read()
    )
    assert base64.b64decode(document["base64OriginalPayload"]) == b"refused"
    assert document["failures"][0]["failedAction"] == "KinesisAction"


def stand_still_and_go_on(local: LocalAws) -> None:
    """While nothing moves, a drain ends with where to look; once it does again, it waits longer than that."""
    source = load(local.folder).child("event-source")
    assert source
    os.kill(source.pid, signal.SIGSTOP)
    data = json.dumps({"raw": base64.b64encode(b"late").decode()}).encode()
    local.client("kinesis").put_record(StreamName="stream-t", Data=data, PartitionKey="p")
    with pytest.raises(EnvironmentFault) as fault:
        wait_until_drained(local, seconds=1.0)
    assert fault.value.message.startswith("the local AWS made no progress for 1 seconds: the event source has not")
    assert Path((fault.value.hint or "").removeprefix("look into ")).is_dir()
    waking = threading.Timer(2.0, os.kill, (source.pid, signal.SIGCONT))
    waking.start()
    assert wait_until_drained(local, seconds=20).done > 0
    assert "late" in keys(local, "seen/")


def test_the_event_source_goes_on_from_its_checkpoint(start: Start) -> None:
    """Stopped and started again, it reads what came meanwhile and not what was done before."""
    local = start()
    make_platform(local)
    local = start_services(local)

    def put(payload: str) -> None:
        data = json.dumps({"raw": base64.b64encode(payload.encode()).decode()}).encode()
        local.client("kinesis").put_record(StreamName="stream-t", Data=data, PartitionKey="p")

    put("first")
    assert wait_until_drained(local, seconds=30).read == 1
    stop_services(local)
    put("second")
    local = start_services(local)
    assert wait_until_drained(local, seconds=30).read == 1
    assert keys(local, "seen/") == ["first", "second"]


def test_two_run_side_by_side_and_leave_nothing(start: Start) -> None:
    """Two in two folders know nothing of each other; ended, neither a process nor a file is left."""
    first, second = start("first"), start("second")
    first.client("sqs").create_queue(QueueName="mine")
    urls = [local.client("sqs").list_queues().get("QueueUrls", []) for local in (first, second)]
    assert [len(each) for each in urls] == [1, 0]
    children = [*load(first.folder).children, *load(second.folder).children]
    assert [is_running(child) for child in children] == [True, True]
    emulator.stop(first)
    assert [is_running(child) for child in children] == [False, True]
    emulator.stop(second)
    assert [first.folder.exists(), second.folder.exists()] == [False, False]
    assert not is_running(children[1])


def test_private_keys_are_for_their_owner_alone(start: Start) -> None:
    """Every file with a private key has mode 0600, and the authority's key is in none."""
    local = start()
    held = [path for path in local.folder.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in held] == [("server.key", 0o600)]


def test_nobody_comes_in_without_the_proof(start: Start, tmp_path: Path) -> None:
    """Whoever runs the tests: no path, no key `test`, no client without a certificate or with one of its own making."""
    local = start()
    host = local.url.removeprefix("https://")
    assert {"403"} == {intruder.status(host, method, path, {}) for method, path in intruder.PATHS}
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        local.client("sts", aws_access_key_id="test", aws_secret_access_key="test").get_caller_identity()
    certificates = (None, intruder.self_signed(tmp_path))
    assert ["", ""] == [intruder.mqtt_answer(local.mqtt_port, each) for each in certificates]


def test_permissions_are_enforced(start: Start) -> None:
    """A role may do what its policy says and nothing else, and an unknown key nothing."""
    local = start()
    make_platform(local)
    keys_of = local.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/role-rule", RoleSessionName="test"
    )["Credentials"]
    kinesis = local.client(
        "kinesis",
        aws_access_key_id=keys_of["AccessKeyId"],
        aws_secret_access_key=keys_of["SecretAccessKey"],
        aws_session_token=keys_of["SessionToken"],
    )
    kinesis.put_record(StreamName="stream-t", Data=b"x", PartitionKey="p")
    with pytest.raises(ClientError, match="AccessDenied"):
        kinesis.delete_stream(StreamName="stream-t")
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        local.client("sts", aws_access_key_id="unknown", aws_secret_access_key="x").get_caller_identity()


def test_a_running_one_is_not_started_twice_and_a_dead_one_is_replaced(start: Start) -> None:
    """`up` refuses a folder in use; after its emulator died, status says so and `up` starts again."""
    local = start()
    with pytest.raises(EnvironmentFault) as fault:
        emulator.start(folder=local.folder, region=REGION)
    assert fault.value.message == f"a local AWS runs already in {local.folder}"
    stop_children(load(local.folder).children)
    status = local_status(load(local.folder))
    assert (status.is_whole, status.processes[0].is_running) == (False, False)
    assert status.processes[0].last_words != ()
    with pytest.raises(EnvironmentFault, match=r"the emulator of the local AWS in .* has ended"):
        emulator.require_emulator(load(local.folder))
    assert local_status(start()).is_whole


def test_a_failed_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator that does not answer in time is ended, its folder is removed, and the fault says so."""
    started = []

    def impatient(local: LocalAws, child: Any) -> None:
        started.append(child)
        await_emulator(local, child, seconds=-1.0)

    await_emulator = emulator.await_emulator
    monkeypatch.setattr(emulator, "await_emulator", impatient)
    begun = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"did not answer at https://127\.0\.0\.1:[0-9]+ within -1 seconds"):
        emulator.start(folder=tmp_path / "local", region=REGION)
    assert time.monotonic() - begun < 20
    assert [is_running(child) for child in started] == [False]
    assert not (tmp_path / "local").exists()
