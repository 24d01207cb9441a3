"""The whole pipeline on the local AWS: what devices publish arrives once, what is not allowed does not."""

from __future__ import annotations

import base64
import datetime
import json
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from fleet_iot.operations.assurance.deployer import Scope, deployer_policies, read_resources
from fleet_iot.operations.assurance.preflight import Caller, Deployment, check_permissions
from fleet_iot.operations.aws import Aws
from fleet_iot.operations.local import deployment
from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalAws, RoleSession, applied_stacks, count_resources
from fleet_iot.operations.local.deployment import wait_until_drained
from fleet_iot.operations.local.event_source import Discard, failure_message
from fleet_iot.operations.local.overrides import FIRST_PLAN_DRIFT
from fleet_iot.operations.processes import is_running, readable_by_owner_only
from fleet_iot.operations.project import load_project
from fleet_iot.operations.rehearsal.demo import (
    Archive,
    compare,
    count_registry,
    files_with_private_keys,
    gather,
    read_archive,
    read_readings,
    tracked_files,
)
from fleet_iot.operations.rehearsal.simulator import read_truth, tls_context
from fleet_iot.operations.telemetry.anomalies import Anomaly, read_anomalies
from fleet_iot.operations.telemetry.archive import stored_lines
from tests.integration.operators import first_records, lines, readings
from tests.integration.plant import APPLICATION, SUFFIX, Plant

pytestmark = pytest.mark.local_aws

PRESS = f"sg-01-press-monitor-0001-{SUFFIX}"
OTHER_PRESS = f"sg-01-press-monitor-0002-{SUFFIX}"
BOILER = f"sg-01-boiler-0001-{SUFFIX}"
BUCKET = f"bucket-{APPLICATION}-raw-archive-000000000000-{SUFFIX}"


def telemetry(thing: str, *, facility: str = "sg-01", device_type: str = "press-monitor") -> str:
    return f"dt/{APPLICATION}/{facility}/{device_type}/{thing}/telemetry"


def subscription(plant: Plant, topic: str) -> Callable[[], list[str]]:
    """Subscribes a queue of its own to a topic; gives what says which messages have come."""
    sns, sqs = plant.local.client("sns"), plant.local.client("sqs")
    queue = sqs.create_queue(QueueName=f"queue-heard-{SUFFIX}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic_arn = arn.replace(":sqs:", ":sns:").replace(arn.rpartition(":")[2], topic)
    lets_in = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [lets_in]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})

    def heard() -> list[str]:
        bodies: list[str] = []
        while answer := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in answer]
            for message in answer:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    return heard


def events(plant: Plant) -> list[Anomaly]:
    """The anomalies in the table."""
    return list(read_anomalies(plant.local.client("dynamodb"), f"table-readings-{SUFFIX}"))


class Answers:
    """Answers of the broker to one client: whether it was let in, and the reason codes of its publishes."""

    def __init__(self) -> None:
        self.connected: bool | None = None
        self.published: list[int] = []
        self.answered = threading.Event()


def publish(plant: Plant, *, client_id: str, context: ssl.SSLContext, topic: str, payload: bytes) -> Answers:
    """Connect and publish once at QoS 1; wait for what the broker says, or for it to say nothing."""
    answers = Answers()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    client.tls_set_context(context)

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        answers.connected = not reason.is_failure
        if answers.connected:
            client.publish(topic, payload, qos=1)
        else:
            answers.answered.set()

    def on_publish(_client: Any, _data: Any, _mid: int, reason: Any, _properties: Any) -> None:
        answers.published.append(reason.value)
        answers.answered.set()

    client.on_connect, client.on_publish = on_connect, on_publish
    client.on_disconnect = lambda *_: answers.answered.set()
    with suppress(OSError):
        client.connect(plant.broker.host, plant.broker.port)
        client.loop_start()
        answers.answered.wait(10)
        client.disconnect()
    client.loop_stop()
    return answers


def context_of(plant: Plant, thing: str) -> ssl.SSLContext:
    return tls_context(plant.broker, certificate=plant.certificate(thing)[1], key=plant.key(thing))


def archive(plant: Plant) -> Archive:
    wait_until_drained(plant.local)
    return read_archive(plant.local.client("s3"), BUCKET)


def reading(marker: int) -> bytes:
    """A good reading whose sequence number tells it from all others."""
    now_ms = int(time.time() * 1000)
    return json.dumps({"time": now_ms, "sequence": marker, "metrics": {"temperature": 40.5}}).encode()


def arrived(plant: Plant, marker: int) -> bool:
    return any(sequence == marker for _, _, sequence in archive(plant).readings)


def test_every_thing_is_registered_with_one_active_certificate(plant: Plant) -> None:
    """The registry holds the manifest's seven things, each with a certificate of its own."""
    registry = count_registry(plant.local.client("iot"), SUFFIX)
    assert (7, 7) == (registry.things, registry.certificates)


def test_what_devices_publish_arrives_exactly_once(plant: Plant) -> None:
    """Through repeats and forced redelivery nothing is lost or doubled, sums are exact, poison is in quarantine."""
    truth_file = plant.root / "build" / "truth.jsonl"
    heard = subscription(plant, f"topic-anomalies-{SUFFIX}")
    run = plant.fleet(
        *("simulate", "--rate", "100", "--duration", "12", "--poison", "0.05", "--repeats", "0.05"),
        *("--anomalies", "1", "--seed", "5", "--truth", str(truth_file), "--json"),
    )
    outcome = json.loads(run.stdout)
    assert (7, 0) == (outcome["things"], outcome["refused"])
    held = archive(plant)
    stored = read_readings(plant.local.client("dynamodb"), f"table-readings-{SUFFIX}")
    difference = compare(
        gather(read_truth(truth_file)),
        minutes=stored.minutes,
        anomalies=stored.anomalies,
        archived=held.readings,
    )
    assert (0, 0, 0) == (difference.lost, difference.duplicated, difference.wrong_sums)
    assert outcome["readings"] == sum(item.messages for item in stored.minutes)
    assert outcome["poison"] == held.quarantined
    assert outcome["poison"] > 0
    assert outcome["repeats"] > 0
    assert difference.anomalies_detected >= 0.9 * difference.anomalies_injected > 0
    assert wait_until_drained(plant.local).redelivered > 0
    # Whoever subscribes hears of each, as it is in the table; redelivery may tell it again, and then word for word.
    messages = heard()
    told = {json.loads(message)["event_id"]: message for message in messages}
    alone = {f"{each.thing}#{each.id}" for each in events(plant)} & told.keys()
    # Of many machines at once the first are told one by one, and all of them in a flood's message.
    floods = [json.loads(message) for name, message in told.items() if "#flood#" in name]
    assert alone
    for facility in {each.facility for each in events(plant) if f"{each.thing}#{each.id}" not in alone}:
        assert any(flood["facility"] == facility for flood in floods)
    assert set(told.values()) == set(messages)


def test_quarantine_tells_why_and_keeps_the_bytes(plant: Plant) -> None:
    """A poison message lies in quarantine with its reason, its raw bytes and its device."""
    poison = b'{"time": "yesterday", "marker": 4711}'
    answers = publish(plant, client_id=PRESS, context=context_of(plant, PRESS), topic=telemetry(PRESS), payload=poison)
    assert any(code < 0x80 for code in answers.published)
    wait_until_drained(plant.local)
    lines = list(quarantine_lines(plant))
    found = [line for line in lines if line["raw"] == as_base64(poison)]
    assert len(found) == 1
    assert PRESS == found[0]["envelope"]["thing"]
    assert found[0]["reason"]


def quarantine_lines(plant: Plant) -> list[dict[str, Any]]:
    unique = {
        line["sequence_number"]: line for _, line in stored_lines(plant.local.client("s3"), BUCKET, "quarantine/")
    }
    return list(unique.values())


def as_base64(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


def test_devices_are_known_by_their_certificates(plant: Plant) -> None:
    """The device table holds type, facility, certificate and first and last contact of who published."""
    item = plant.local.client("dynamodb").get_item(
        TableName=f"table-devices-{SUFFIX}", Key={"device": {"S": PRESS}}, ConsistentRead=True
    )["Item"]
    assert ("press-monitor", "sg-01") == (item["device_type"]["S"], item["facility"]["S"])
    assert plant.certificate(PRESS)[0] == item["certificate_id"]["S"]
    assert item["first_contact"]["S"] <= item["last_contact"]["S"]


def test_a_device_gets_its_own_reading_through(plant: Plant) -> None:
    """The way that the refusals below are measured by lets a rightful reading through."""
    answers = publish(
        plant, client_id=PRESS, context=context_of(plant, PRESS), topic=telemetry(PRESS), payload=reading(900_001)
    )
    assert answers.connected
    assert arrived(plant, 900_001)


def test_anothers_certificate_gets_nothing_through(plant: Plant) -> None:
    """A device that shows its own certificate cannot connect under another's name."""
    answers = publish(
        plant,
        client_id=PRESS,
        context=context_of(plant, OTHER_PRESS),
        topic=telemetry(PRESS),
        payload=reading(900_002),
    )
    assert not any(code < 0x80 for code in answers.published)
    assert not arrived(plant, 900_002)


@pytest.mark.parametrize(
    ("marker", "topic"),
    [
        (900_003, telemetry(OTHER_PRESS)),
        (900_004, telemetry(PRESS, facility="th-01")),
        (900_005, telemetry(PRESS, device_type="boiler")),
        (900_006, f"$aws/rules/rule_telemetry_th_01_{SUFFIX}/{telemetry(PRESS)}"),
        (900_007, f"$aws/rules/rule_telemetry_sg_01_{SUFFIX}/{telemetry(OTHER_PRESS)}"),
    ],
    ids=["another thing", "another facility", "another type", "another facility's rule", "another thing's ingest"],
)
def test_a_foreign_topic_gets_nothing_through(plant: Plant, marker: int, topic: str) -> None:
    """A connected device can publish to its own topic alone, also through Basic Ingest."""
    answers = publish(plant, client_id=PRESS, context=context_of(plant, PRESS), topic=topic, payload=reading(marker))
    assert not any(code < 0x80 for code in answers.published)
    assert not arrived(plant, marker)


def test_no_certificate_gets_nothing_through(plant: Plant) -> None:
    """A client without a certificate may finish TLS on the emulator, but its reading goes nowhere."""
    context = ssl.create_default_context(cafile=str(plant.broker.ca_file))
    publish(plant, client_id=PRESS, context=context, topic=telemetry(PRESS), payload=reading(900_008))
    assert not arrived(plant, 900_008)


def test_an_unknown_certificate_gets_nothing_through(plant: Plant) -> None:
    """A certificate that a stranger signed is refused."""
    key = ec.generate_private_key(ec.SECP256R1())
    context = tls_context(plant.broker, certificate=self_signed(PRESS, key), key=key)
    answers = publish(plant, client_id=PRESS, context=context, topic=telemetry(PRESS), payload=reading(900_009))
    assert not any(code < 0x80 for code in answers.published)
    assert not arrived(plant, 900_009)


def self_signed(name: str, key: ec.EllipticCurvePrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def test_an_inactive_certificate_gets_nothing_through(plant: Plant) -> None:
    """A certificate that was set INACTIVE is refused, and let in again once it is ACTIVE."""
    iot = plant.local.client("iot")
    identifier, _ = plant.certificate(BOILER)
    context = context_of(plant, BOILER)
    topic = telemetry(BOILER, device_type="boiler")
    iot.update_certificate(certificateId=identifier, newStatus="INACTIVE")
    try:
        refused = publish(plant, client_id=BOILER, context=context, topic=topic, payload=reading(900_010))
    finally:
        iot.update_certificate(certificateId=identifier, newStatus="ACTIVE")
    accepted = publish(plant, client_id=BOILER, context=context, topic=topic, payload=reading(900_011))
    assert not any(code < 0x80 for code in refused.published)
    assert any(code < 0x80 for code in accepted.published)
    assert arrived(plant, 900_011)
    assert not arrived(plant, 900_010)


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("s3", "put_object", {"Bucket": BUCKET, "Key": "elsewhere/x", "Body": b"x"}),
        ("s3", "get_object", {"Bucket": BUCKET, "Key": "raw/x"}),
        ("s3", "delete_object", {"Bucket": BUCKET, "Key": "raw/x"}),
        ("dynamodb", "scan", {"TableName": f"table-readings-{SUFFIX}"}),
        ("dynamodb", "delete_table", {"TableName": f"table-readings-{SUFFIX}"}),
        ("kinesis", "put_record", {"StreamName": f"stream-telemetry-{SUFFIX}", "Data": b"x", "PartitionKey": "x"}),
        ("iot", "list_things", {}),
        ("iam", "list_roles", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_handler_is_denied_what_its_role_does_not_allow(
    plant: Plant, service: str, call: str, arguments: dict[str, Any]
) -> None:
    """Under the Lambda's own role each call that the processor does not need is refused."""
    client = under_role(plant, "role-sensor-processor", service)
    with pytest.raises(ClientError) as refused:
        getattr(client, call)(**arguments)
    assert refused.value.response["Error"]["Code"] in {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
    }


def test_the_handler_may_do_what_it_needs(plant: Plant) -> None:
    """The same credentials can write to the archive's prefix, so the refusals above are the role's."""
    client = under_role(plant, "role-sensor-processor", "s3")
    answer = client.put_object(Bucket=BUCKET, Key="raw/facility=none/probe", Body=b"x")
    assert 200 == answer["ResponseMetadata"]["HTTPStatusCode"]


def under_role(plant: Plant, role: str, service: str) -> Any:
    arn = f"arn:aws:iam::000000000000:role/{role}-itest-{plant.local.region}-{SUFFIX}"
    return RoleSession(plant.local, arn, session_name="integration").client(service)


def applied(local: LocalAws) -> int:
    return sum(map(count_resources, applied_stacks(local)))


def test_poison_is_listed_shown_and_given_again(plant: Plant) -> None:
    """Every record with its reason; one with its bytes; and poison that goes back comes back, and harms nothing."""
    found = lines(plant, "quarantine", "list", "--json")
    assert found
    shown = plant.fleet("quarantine", "show", found[0]["sequence_number"]).stdout
    assert shown.startswith(f"{found[0]['reason']}: ")

    before = readings(plant)
    done = plant.fleet("quarantine", "replay", "--yes").stdout
    assert done.startswith(f"{len(found):,} records put into the stream again")
    wait_until_drained(plant.local)
    assert (before, len(found)) == (readings(plant), len(lines(plant, "quarantine", "list", "--json")))


def test_records_that_ran_out_of_retries_are_replayed_and_count_once(plant: Plant) -> None:
    """A message of the failure queue names records; replay fetches them and changes nothing that was counted."""
    before = readings(plant)
    records, shard, stream_arn = first_records(plant)
    sqs = plant.local.client("sqs")
    (url,) = [url for url in sqs.list_queues()["QueueUrls"] if "processor-failures" in url]
    message = failure_message(
        Discard(records=records, condition="RetryAttemptsExhausted", invocations=101),
        shard=shard,
        stream_arn=stream_arn,
        function_arn="arn",
        request_id="r",
        error="Unhandled",
        now=0.0,
    )
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message))

    (outcome,) = lines(plant, "replay", "--json")
    assert {"messages": 1, "replayed": len(records), "gone": 0, "left": []} == outcome
    assert before == readings(plant)
    assert [] == sqs.receive_message(QueueUrl=url).get("Messages", [])


def test_compaction_changes_no_reading(plant: Plant) -> None:
    """The deployed compactor, under its role, makes Parquet objects of all raw ones; its role writes no raw object."""
    before = archive(plant)
    done = json.loads(plant.fleet("archive", "compact", "--early", "--json").stdout)
    after = archive(plant)
    again = json.loads(plant.fleet("archive", "compact", "--early", "--json").stdout)

    assert (before.readings, before.lines, 0) == (after.readings, after.lines, before.objects)
    assert done["lines"] - done["duplicates"] == before.lines
    assert after.objects > 0 == again["raw_objects"]
    with pytest.raises(ClientError, match="AccessDenied"):
        under_role(plant, "role-archive-compactor", "s3").put_object(Bucket=BUCKET, Key="raw/date=x/probe", Body=b"x")


def test_anomalies_are_listed_and_acknowledged(plant: Plant) -> None:
    """Anomalies are listed with their reason until they are acknowledged."""
    found = lines(plant, "anomalies", "list", "--json")
    assert found and all(each["reason"] and each["severity"] in {"warning", "critical"} for each in found)
    plant.fleet("anomalies", "ack", found[0]["thing"], found[0]["id"], "--by", "mei", "--false")

    assert len(found) - 1 == len(lines(plant, "anomalies", "list", "--json"))
    (report,) = lines(plant, "anomalies", "report", "--json")
    assert 1 == sum(line["false"] for line in report["lines"])


def test_no_private_key_is_in_output_or_state(plant: Plant) -> None:
    """Neither what was synthesised nor what Terraform wrote holds a private key, and both were looked at."""
    output = plant.local.output
    assert applied(plant.local) > 80
    assert [] == files_with_private_keys([output, *tracked_files(plant.root)])


def test_what_watches_the_plants_is_applied(plant: Plant) -> None:
    """Alarms tell one of two encrypted topics, the trail is filtered, events of devices are archived."""
    local = plant.local
    described = local.client("cloudwatch").describe_alarms(MaxRecords=100)["MetricAlarms"]
    alarms = {alarm["AlarmName"].removesuffix(f"-{SUFFIX}"): alarm for alarm in described}
    assert {"alarm-iterator-age", "alarm-root-use", "alarm-anomalies-sg-01", "alarm-silence-th-01-boiler"} <= set(
        alarms
    )
    listed = [topic["TopicArn"] for topic in local.client("sns").list_topics()["Topics"]]
    topics = {topic.rpartition(":")[2]: topic for topic in listed}
    assert topics.keys() == {f"topic-alarms-{SUFFIX}", f"topic-anomalies-{SUFFIX}"}
    assert {tuple(alarm["AlarmActions"]) for alarm in alarms.values()} == {(topics[f"topic-alarms-{SUFFIX}"],)}
    silence = alarms["alarm-silence-th-01-boiler"]
    assert (silence["Period"], silence["TreatMissingData"]) == (300, "breaching")
    for topic in topics.values():
        attributes = local.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
        assert attributes["KmsMasterKeyId"].startswith("arn:aws:kms:")
    trail_log = f"log-group-audit-trail-{SUFFIX}"
    filters = local.client("logs").describe_metric_filters(logGroupName=trail_log)["metricFilters"]
    assert len(filters) == 14
    rule = local.client("iot").get_topic_rule(ruleName=f"rule_events_presence_{SUFFIX}")["rule"]
    assert [action["s3"]["bucketName"] for action in rule["actions"]] == [BUCKET]


def test_a_second_plan_is_empty_but_for_the_documented_drift(plant: Plant) -> None:
    """Terraform would change nothing but the tags that the emulator takes late, and nothing at all after that."""
    drift = {
        (change.action, change.address.partition(".")[0])
        for changes in deployment.plan(plant.local).values()
        for change in changes
    }
    assert drift <= {("update", resource_type) for resource_type in FIRST_PLAN_DRIFT}
    with readable_by_owner_only():
        deployment.apply_stacks(deployment.local_terraform(plant.local), applied_stacks(plant.local))
    again = deployment.plan(plant.local)
    stacks = {f"tap-{SUFFIX}", f"facility-sg-01-{SUFFIX}", f"facility-th-01-{SUFFIX}"}
    assert dict.fromkeys(stacks, ()) == again


def denied(local: LocalAws) -> set[str]:
    """The actions that the deployer was denied, of all that Terraform has done."""
    key = local.deployer_environment()["AWS_ACCESS_KEY_ID"]
    lines = [line.split() for line in local.decisions.read_text().splitlines()]
    assert len([line for line in lines if line[:2] == ["allowed", key]]) > 100, "it was not root"
    return {action for verdict, whose, action, _ in lines if (verdict, whose) == ("denied", key)}


def test_preflight_finds_the_deployers_permissions(plant: Plant) -> None:
    """IAM allows the role all that its policies should; without one of them it is an error that names the actions."""
    local, role = plant.local, f"arn:aws:iam::{ACCOUNT_ID}:role/{deployment.DEPLOYER_ROLE}"
    found = json.loads(plant.fleet("preflight", "--json").stdout)["findings"]
    assert {"ok", "warning"} == {each["status"] for each in found}
    aws = Aws(account=ACCOUNT_ID, region=local.region, local=local)
    caller = Caller(session_arn=role, kind="role", arn=role)
    names = replace(load_project(plant.root).names, account_id=ACCOUNT_ID, bucket_account_id=ACCOUNT_ID)
    resources = tuple(read_resources(applied_stacks(local)))
    policies = deployer_policies(resources, Scope(names=names))
    wanted = Deployment(names=names, resources=resources, policies=policies, state=None)
    (whole,) = check_permissions(aws, caller, wanted)
    assert "ok" == whole.status, whole.what
    arn = local.client("iam").list_attached_role_policies(RoleName=deployment.DEPLOYER_ROLE)["AttachedPolicies"][-1]
    local.client("iam").detach_role_policy(RoleName=deployment.DEPLOYER_ROLE, PolicyArn=arn["PolicyArn"])
    (partial,) = check_permissions(aws, caller, wanted)
    local.client("iam").attach_role_policy(RoleName=deployment.DEPLOYER_ROLE, PolicyArn=arn["PolicyArn"])
    assert ("error", True) == (partial.status, " are denied: " in partial.what)


def test_destroy_leaves_nothing(plant: Plant) -> None:
    """After destroy no state holds a resource, and the registry, tables and buckets are gone."""
    local = plant.local
    children = local.children
    deployment.destroy(local)
    assert set() == denied(local)
    assert 0 == applied(local)
    assert [] == local.client("iot").list_things()["things"]
    assert [] == local.client("iot").list_certificates()["certificates"]
    assert [] == local.client("dynamodb").list_tables()["TableNames"]
    assert [] == local.client("s3").list_buckets()["Buckets"]
    assert [] == local.client("kinesis").list_streams()["StreamNames"]
    plant.fleet("local", "down")
    assert not any(is_running(child) for child in children)
    assert not Path(local.folder).exists()
