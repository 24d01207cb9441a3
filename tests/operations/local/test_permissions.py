"""Permissions on the local AWS: checked on the resource that a request names, and logged."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.core import iam_actions, iam_evaluator
from ministack.services import iam, lambda_svc

from fleet_iot.operations.local import emulator_process
from fleet_iot.operations.local.emulator_process import check_named_resources, simulate_with_context

REGION, ACCOUNT = "ap-southeast-1", "000000000000"
MAPPING = "28a3c232-dcbd-4a3d-a68a-a8de31072581"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The emulator's modules with the corrections; `asked` is what was evaluated, `noted` what was logged."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ROOT")
    asked: list[tuple[Any, ...]] = []
    noted: list[tuple[Any, ...]] = []

    def enforce(*arguments: Any) -> object | None:
        asked.append(arguments)
        return None if "allowed" in arguments[0] else object()

    for name in ("extract_resource_arn", "_lambda_action"):
        monkeypatch.setattr(iam_actions, name, getattr(iam_actions, name))  # restored afterwards
    evaluator = SimpleNamespace(enforce=enforce)
    mapping = {"FunctionArn": FUNCTION, "Tags": {"environment": "thu"}}
    check_named_resources(iam_actions, evaluator, lambda: {MAPPING: mapping}, note=lambda *each: noted.append(each))
    return SimpleNamespace(asked=asked, noted=noted, enforce=evaluator.enforce)


def resource(service: str, method: str, path: str, body: Any = None, **parameters: str) -> str:
    headers = {"x-amz-target": parameters.pop("target")} if "target" in parameters else {}
    raw = json.dumps(body).encode() if body else b""
    found = iam_actions.extract_resource_arn(service, method, path, headers, raw, parameters, REGION, ACCOUNT)
    return str(found).removeprefix("arn:aws:")


def test_requests_are_checked_on_what_they_name(emulator: Any) -> None:
    """Members that MiniStack leaves out; what AWS authorises without a resource stays `*`."""
    alarm = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:a"
    assert alarm.removeprefix("arn:aws:") == resource(
        "monitoring", "POST", "/", Action="DeleteAlarms", **{"AlarmNames.member.1": "a"}
    )
    assert "*" == resource("monitoring", "POST", "/", Action="DescribeAlarms", **{"AlarmNames.member.1": "a"})
    assert f"cloudwatch::{ACCOUNT}:dashboard/d" == resource(
        "monitoring", "POST", "/", Action="PutDashboard", DashboardName="d"
    )
    assert alarm.removeprefix("arn:aws:") == resource(
        "monitoring", "POST", "/", Action="ListTagsForResource", ResourceARN=alarm
    )
    aliased = {"AliasName": "alias/key-data-thu", "TargetKeyId": "x"}
    assert f"kms:{REGION}:{ACCOUNT}:alias/key-data-thu" == resource(
        "kms", "POST", "/", aliased, target="TrentService.CreateAlias"
    )
    assert f"lambda:{REGION}:{ACCOUNT}:function:f" == resource(
        "lambda", "POST", "/2015-03-31/functions", {"FunctionName": "f"}
    )
    assert f"iot:{REGION}:{ACCOUNT}:provisioningtemplate/t" == resource(
        "iot", "POST", "/provisioning-templates", {"templateName": "t"}
    )
    assert "*" == resource("iot", "POST", "/certificates", {"certificateSigningRequest": "x"})


def test_event_source_mappings_have_their_own_actions_and_keys(emulator: Any) -> None:
    """Reading one is not listing them, and the condition keys are its function and its tags."""
    path = f"/2015-03-31/event-source-mappings/{MAPPING}"
    actions = {method: iam_actions.extract_iam_action("lambda", method, path, {}, b"", {}) for method in ("GET", "PUT")}
    assert {"GET": "lambda:GetEventSourceMapping", "PUT": "lambda:UpdateEventSourceMapping"} == actions
    arn = f"arn:aws:{resource('lambda', 'GET', path)}"
    emulator.enforce("allowed", actions["GET"], "lambda", REGION, arn)
    assert {"lambda:FunctionArn": FUNCTION, "aws:ResourceTag/environment": "thu"} == emulator.asked[-1][-1]
    resource("lambda", "POST", "/2015-03-31/event-source-mappings", {"FunctionName": "f"})
    emulator.enforce("allowed", "lambda:CreateEventSourceMapping", "lambda", REGION, "*")
    assert {"lambda:FunctionArn": FUNCTION} == emulator.asked[-1][-1]


def test_a_key_named_by_its_alias_is_checked_as_a_key(emulator: Any) -> None:
    """With the alias as a condition key, as on AWS; an alias itself is made as an alias."""
    arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/dynamodb"
    emulator.enforce("allowed", "kms:DescribeKey", "kms", REGION, arn)
    assert (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/dynamodb", {"kms:RequestAlias": "alias/aws/dynamodb"}) == (
        emulator.asked[-1][-2:]
    )
    emulator.enforce("allowed", "kms:CreateAlias", "kms", REGION, arn)
    assert arn == emulator.asked[-1][-2]


def test_decisions_are_noted_but_roots(emulator: Any) -> None:
    """Whose, what, on what, and whether it was allowed."""
    emulator.enforce("ROOT", "sqs:CreateQueue", "sqs", REGION, "*")
    emulator.enforce("allowed", "sqs:CreateQueue", "sqs", REGION, "q")
    emulator.enforce("other", "sqs:CreateQueue", "sqs", REGION, "q")
    assert [("allowed", "sqs:CreateQueue", "q", True), ("other", "sqs:CreateQueue", "q", False)] == emulator.noted


def test_the_log_has_each_kind_of_decision_once(tmp_path: Path) -> None:
    """A million records would otherwise be a million lines."""
    write = emulator_process._writer(tmp_path / "decisions.log")
    for _ in range(3):
        write("KEY", "sqs:CreateQueue", "q", False)
        write("KEY", "sqs:CreateQueue", "q", True)
    lines = (tmp_path / "decisions.log").read_text().splitlines()
    assert ["denied KEY sqs:CreateQueue q", "allowed KEY sqs:CreateQueue q"] == lines


def test_a_simulation_regards_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conditional statement is decided by the values that the caller gives, and by none of an earlier caller's."""
    asked = []
    given = SimpleNamespace(
        _IAM_HANDLERS={
            "SimulatePrincipalPolicy": lambda _: asked.append(evaluator._resolve_condition_key("a:B", None))
        },
        _p=iam._p,
    )
    evaluator = SimpleNamespace(_resolve_condition_key=lambda key, context: "resolved")
    simulate_with_context(given, evaluator)
    entry = "ContextEntries.member.1"
    simulate = given._IAM_HANDLERS["SimulatePrincipalPolicy"]
    simulate({f"{entry}.ContextKeyName": "A:b", f"{entry}.ContextKeyValues.member.1": "given"})
    simulate({})
    assert ["given", "resolved"] == asked


def test_the_emulator_has_the_seams_that_are_corrected() -> None:
    """Names of the pinned version that are wrapped or called, with what they take."""
    taken = ["service", "method", "path", "headers", "body", "query_params"]
    assert taken == list(inspect.signature(iam_actions.extract_iam_action).parameters)
    assert [*taken[:5], "region", "account_id"] == [
        each for each in inspect.signature(iam_actions.extract_resource_arn).parameters if "param" not in each
    ]
    assert ["method", "path"] == list(inspect.signature(iam_actions._lambda_action).parameters)
    assert ["access_key_id", "iam_action", "service", "region", "resource_arn", "service_context"] == list(
        inspect.signature(iam_evaluator.enforce).parameters
    )
    assert ["key", "ctx"] == list(inspect.signature(iam_evaluator._resolve_condition_key).parameters)
    assert callable(iam._IAM_HANDLERS["SimulatePrincipalPolicy"]) and callable(iam_actions._param)
    assert hasattr(lambda_svc._esms, "get")
