"""Input and reports of a bulk registration: requests as botocore's service model has them, any reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.material import read_material
from fleet_iot.operations.registry import bulk as reading
from fleet_iot.operations.registry import bulk as run
from fleet_iot.operations.registry import bulk as tasks
from fleet_iot.operations.registry.bulk import (
    TEMPLATE_LIMIT,
    BulkPlace,
    Reported,
    attributes_of,
    parameter_line,
    read_report,
    template_body,
)
from fleet_iot.operations.registry.calls import IotCalls, Pacer
from fleet_iot.operations.registry.journal import Journal, Run, Step
from fleet_iot.operations.registry.matching import Pair
from fleet_iot.operations.registry.steps import Group, Work
from tests.operations.lists.builders import NOW, make_certificate, make_request, new_key, pem
from tests.operations.registry.test_steps import RUN
from tests.places import SAMPLE

TEMPLATE = SAMPLE / "lib" / "facilities" / "sg_01" / "bulk_registration_template.json"
GROUP = Group(thing_group="thing-group-sg-01-press-dev", policy="policy-sg-01-press-dev")


def thing(number: int, **attributes: str) -> ThingRow:
    name, own = f"sg-01-press-{number:04d}-dev", {"facility": "sg-01", "serial": f"SN-{number}"}
    return ThingRow(
        name=name,
        thing_type="thing-type-press-dev",
        device_type="press",
        serial=f"SN-{number}",
        attributes=own | attributes,
    )


class Uploads:
    """An S3 that keeps what it is given."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}

    def upload_file(self, path: str, bucket: str, key: str) -> None:
        self.kept[bucket, key] = Path(path).read_bytes()


class Case:
    """A run of three things, two of which have an attribute more, and a stubbed client that checks each request."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        self.iot, self.journal, self.s3 = boto3.client("iot", region_name="eu-west-1", **keys), journal, Uploads()
        self.stub, self.asked = Stubber(self.iot), []
        self.iot.meta.events.register("provide-client-params.iot", self._note)
        calls = IotCalls(self.iot, Pacer(None, account="1", rates={}), sleep=lambda _: None)
        self.work = Work(
            calls=calls, journal=journal, groups={"press": GROUP}, is_staged=False, policy_on="certificate"
        )
        self.keys = {number: new_key() for number in (1, 2, 3)}
        things = {1: thing(1), 2: thing(2, line="b2"), 3: thing(3, line="b2")}
        pairs = [
            Pair(
                thing=planned,
                row=number,
                place="",
                material=read_material(None, pem(make_request(planned.name, key=self.keys[number])).encode(), now=NOW),
            )
            for number, planned in things.items()
        ]
        values = {name: getattr(RUN, name) for name in Run.__slots__} | {"is_bulk": True}
        self.run = journal.start_run(Run(**values), pairs, [], now=1.0)
        self.place = BulkPlace(
            s3=self.s3,
            bucket="bucket-mfg-raw-archive-dev",
            prefix="bulk-registration/sg-01/",
            role_arn="arn:aws:iam::111122223333:role/role-bulk-registration-dev",
            template=TEMPLATE,
            folder=folder / "files",
            asks_to_stop=lambda: True,
        )

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.asked.append((model, params))

    def result(self, number: int, *, key: Any = None) -> Reported:
        """Return AWS IoT's report of a thing that it has registered."""
        made = make_certificate(key=key or self.keys[number])
        return Reported(
            line=None, thing=thing(number).name, certificate_pem=pem(made), certificate_arn=None, message=""
        )


@pytest.fixture
def case(tmp_path: Path) -> Any:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield Case(tmp_path, journal)


def answers(case: Case, *calls: tuple[str, dict[str, Any]]) -> None:
    for method, answer in calls:
        case.stub.add_response(method, answer)
    case.stub.activate()


GROUP_ANSWER = ("describe_thing_group", {"thingGroupName": "g", "thingGroupArn": "arn:g"})
NONE_RUNS = ("list_thing_registration_tasks", {"taskIds": []})


def test_requests_are_those_of_the_service_model(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Types, lengths, patterns and enumerations; things with other attributes are another task's."""
    monkeypatch.setattr(reading, "fetch_lines", lambda _: iter(()))
    for_one = (
        GROUP_ANSWER,
        NONE_RUNS,
        ("start_thing_registration_task", {"taskId": "t"}),
        ("describe_thing_registration_task", {"status": "InProgress", "successCount": 1}),
        ("describe_thing_registration_task", {"status": "Completed", "successCount": 2}),
        ("list_thing_registration_task_reports", {"resourceLinks": ["https://x"], "nextToken": "n"}),
        ("list_thing_registration_task_reports", {"resourceLinks": []}),
        ("list_certificates", {"certificates": []}),
        ("list_thing_registration_task_reports", {"resourceLinks": []}),
    )
    answers(case, *for_one, *for_one)
    run.run_tasks(case.work, case.run, case.place, on_progress=lambda _: None, sleep=lambda _: None)
    case.stub.assert_no_pending_responses()
    for model, params in case.asked:
        assert params.keys() >= set(model.input_shape.required_members)
        for name, value in params.items():
            shape = model.input_shape.members[name]
            if shape.type_name == "string":
                assert len(value) <= shape.metadata.get("max", 1 << 30), name
                assert re.fullmatch(shape.metadata.get("pattern", r"[\s\S]*"), value), name
                assert value in shape.metadata.get("enum", [value]), name
    uploads = [list(map(json.loads, text.splitlines())) for text in case.s3.kept.values()]
    assert [[thing(1).name], [thing(2).name, thing(3).name]] == [[line["ThingName"] for line in up] for up in uploads]
    assert all(isinstance(value, str) for line in uploads[1] for value in line.values())
    started = [params for model, params in case.asked if model.name == "StartThingRegistrationTask"]
    bodies = [json.loads(params["templateBody"]) for params in started]
    assert [set(line) for line, *_ in uploads] == [set(body["Parameters"]) for body in bodies]


def test_an_interrupted_task_is_stopped_when_one_says_so(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for until it is cancelled, and what it has done is read."""
    monkeypatch.setattr(reading, "fetch_lines", lambda _: iter(()))
    answers(
        case,
        *(GROUP_ANSWER, NONE_RUNS, ("start_thing_registration_task", {"taskId": "t"})),
        ("describe_thing_registration_task", {"status": "InProgress"}),
        ("stop_thing_registration_task", {}),
        ("describe_thing_registration_task", {"status": "Cancelled"}),
        ("list_thing_registration_task_reports", {"resourceLinks": []}),
        ("list_certificates", {"certificates": []}),
        ("list_thing_registration_task_reports", {"resourceLinks": []}),
    )
    pressed = iter([KeyboardInterrupt])

    def show(_: object) -> None:
        for error in pressed:
            raise error

    with pytest.raises(EnvironmentFault, match="bulk registration t is Cancelled"):
        run.run_tasks(case.work, case.run, case.place, on_progress=show, sleep=lambda _: None)
    case.stub.assert_no_pending_responses()
    assert tasks.open_task(case.journal, case.run) is None
    assert (2, "facility,serial") == tasks.next_part(case.journal, case.run)
    assert {"planned": 3} == case.journal.count(case.run)


def begun(case: Case) -> tasks.Task:
    """A task of the two things with a line more, as if it had been started."""
    task = tasks.Task(run=case.run, part=1, bucket="b", key="k", id="t", begun=2.0)
    case.journal.write(*tasks.intend(task, "facility,line,serial"))
    assert {Step.CERTIFICATE} == set(case.journal.steps(thing(2).name))
    return task


def test_a_certificate_of_another_key_is_made_inactive(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its device is not done; the good one is."""
    task, bad, good = begun(case), case.result(2, key=new_key()), case.result(3)
    reports = {"RESULTS": [bad, good], "ERRORS": []}
    monkeypatch.setattr(reading, "_report", lambda _work, _id, kind: iter(reports[kind]))
    described = {"certificateDescription": {"certificateArn": "arn:cert/x"}}
    answers(case, ("describe_certificate", described), ("update_certificate", {}), ("describe_certificate", described))
    reading.read_reports(case.work, task, "t", lambda _: None, is_complete=True)
    case.stub.assert_no_pending_responses()
    assert {"done": 1, "failed": 1, "planned": 1} == case.journal.count(case.run)
    assert 1 == len(case.journal.read("SELECT 1 FROM orphans"))


def test_a_line_that_came_too_fast_is_no_failure(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is registered call by call; another error is the row's."""
    task = begun(case)
    errors = [
        Reported(line=1, thing=None, certificate_pem=None, certificate_arn=None, message="ThrottlingException"),
        Reported(line=2, thing=None, certificate_pem=None, certificate_arn=None, message="the CSR is not valid"),
    ]
    reports = {"RESULTS": [], "ERRORS": errors}
    monkeypatch.setattr(reading, "_report", lambda _work, _id, kind: iter(reports[kind]))
    answers(case, ("list_certificates", {"certificates": []}))
    reading.read_reports(case.work, task, "t", lambda _: None, is_complete=True)
    query = "SELECT thing, state FROM devices ORDER BY thing"
    assert ["planned", "planned", "failed"] == [state for _, state in case.journal.read(query)]
    assert (2, "facility,serial") == tasks.next_part(case.journal, case.run)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            b'{"lineNumber": 3, "response": {"CertificatePem": "P", "ResourceArns": {"thing": "arn:thing/a"}}}',
            (3, "a", "P"),
        ),
        (b'{"response": {"certificatePem": "P", "resourceArns": {"THING": "arn:thing/a"}}}', (None, "a", "P")),
        (b'{"lineNumber": "4", "response": null, "errorMessage": "no"}', (4, None, None)),
        (b'{"LineNumber": 4, "ThingName": "a"}', (4, "a", None)),
    ],
)
def test_reports_are_read_whatever_they_leave_out(line: bytes, found: tuple[Any, ...]) -> None:
    """AWS documents them nowhere."""
    (reported,) = read_report(iter([line, b"", b"[1]", b"not JSON", b"[" * 100_000]))
    assert found == (reported.line, reported.thing, reported.certificate_pem)
    assert reported.message


def test_attributes_are_parameters(tmp_path: Path) -> None:
    """All that the approved record gives a thing; so many that the template would be too long are refused."""
    planned = thing(1, line="b2", hall="2")
    assert ("hall", "line") == attributes_of(planned)
    body = json.loads(template_body(TEMPLATE, attributes_of(planned), is_staged=True))
    payload = body["Resources"]["thing"]["Properties"]["AttributePayload"]
    line = json.loads(parameter_line(planned, b"", GROUP))
    filled = {name: line[value["Ref"]] if isinstance(value, dict) else value for name, value in payload.items()}
    assert planned.attributes == filled
    assert "INACTIVE" == body["Resources"]["certificate"]["Properties"]["Status"]
    many = [f"{'x' * 100}{number}" for number in range(48)]
    with pytest.raises(RequestError, match=str(TEMPLATE_LIMIT)):
        template_body(TEMPLATE, many, is_staged=False)
    with pytest.raises(EnvironmentFault, match="missing or damaged"):
        template_body(tmp_path / "none.json", [], is_staged=False)
