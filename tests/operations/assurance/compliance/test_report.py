"""The report, as data and as a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleet_iot.operations.assurance.compliance.findings import Finding, Skip, read_catalogue
from fleet_iot.operations.assurance.compliance.gate import Verdict
from fleet_iot.operations.assurance.compliance.report import build_report, render_page

ABOUT = {"application": "mfg", "environment": "dev", "region": "eu-west-1", "record": "0" * 16, "scanners": "x 1"}


def report(verdict: Verdict) -> dict[str, Any]:
    return build_report(verdict, read_catalogue(), about=ABOUT)


def control(built: dict[str, Any], id_: str) -> dict[str, Any]:
    (found,) = [each for each in built["controls"] if each["id"] == id_]
    return dict(found)


def test_a_control_leads_to_resource_attribute_and_verdict(verdict: Callable[..., Verdict]) -> None:
    """As an auditor asks: KMS.4, by what, and does it hold?"""
    found = control(report(verdict()), "FSBP KMS.4")
    assert ("FSBP", "passed") == (found["framework"], found["verdict"])
    assert [
        {
            "resource": "aws_kms_key.key-data",
            "attribute": "enable_key_rotation",
            "verdict": "passed",
            "check": "fleet key-rotation",
            "demand": "Every key rotates",
        }
    ] == found["results"]


def test_exceptions_show_in_the_control(
    verdict: Callable[..., Verdict], finding: Callable[..., Finding], skip: Callable[..., Skip]
) -> None:
    """A control with an accepted finding is not simply passed, and one that fails is failed."""
    findings = (finding("does not rotate"), finding(resource="aws_kms_key.key-logs"))
    accepted = control(report(verdict(findings=findings, skips=(skip(),))), "CIS 3.6")
    assert ("skipped", 1, 1) == (accepted["verdict"], accepted["passed"], accepted["skipped"])
    assert "accepted in this test" in accepted["results"][0]["reason"]
    assert "failed" == control(report(verdict(findings=findings)), "CIS 3.6")["verdict"]


def test_a_control_is_answered_by_its_own_resources(
    verdict: Callable[..., Verdict], finding: Callable[..., Finding]
) -> None:
    """An encrypted table says nothing of queues."""
    table = finding(check="own-key", resource="aws_dynamodb_table.t", attribute="kms_key_arn")
    ids = [each["id"] for each in report(verdict(findings=(table,)))["controls"]]
    assert "NIST SC-28" in ids
    assert not {"FSBP SQS.1", "FSBP SNS.1", "FSBP CloudTrail.2"} & set(ids)


def test_each_watched_event_is_a_control_of_its_own(
    verdict: Callable[..., Verdict], finding: Callable[..., Finding]
) -> None:
    """Root's use being watched says nothing of bucket policies."""
    root = finding(check="events-watched", resource="aws_cloudwatch_log_metric_filter.f", attribute="4.3 use of root")
    ids = [each["id"] for each in report(verdict(findings=(root,)))["controls"] if each["framework"] == "CIS"]
    assert ["CIS 4.3"] == ids


def test_what_no_framework_asks_is_shown_all_the_same(
    verdict: Callable[..., Verdict], finding: Callable[..., Finding]
) -> None:
    """A scanner's check that is not mapped has a place of its own."""
    new = finding(scanner="checkov", check="CKV_AWS_9999")
    assert "Good practice CKV_AWS_9999" == report(verdict(findings=(new,)))["controls"][0]["id"]


def test_controls_are_in_the_order_of_their_numbers(
    verdict: Callable[..., Verdict], finding: Callable[..., Finding]
) -> None:
    """S3.9 comes before S3.13."""
    checks = ("bucket-private", "bucket-lifecycle", "bucket-logged")
    findings = tuple(finding(check=check, resource="aws_s3_bucket.b") for check in checks)
    ids = [each["id"] for each in report(verdict(findings=findings))["controls"] if each["framework"] == "FSBP"]
    assert ["FSBP S3.1", "FSBP S3.8", "FSBP S3.9", "FSBP S3.12", "FSBP S3.13"] == ids


def test_a_run_says_the_same_as_the_last(verdict: Callable[..., Verdict], finding: Callable[..., Finding]) -> None:
    """Whatever order the findings come in."""
    findings = (finding(), finding(resource="aws_kms_key.key-logs"), finding(check="own-key"))
    one, other = report(verdict(findings=findings)), report(verdict(findings=findings[::-1]))
    assert one["controls"] == other["controls"]
    assert render_page(one) == render_page(other)


def test_page_shows_verdict_reason_and_figures(
    verdict: Callable[..., Verdict], finding: Callable[..., Finding], skip: Callable[..., Skip]
) -> None:
    """An accepted problem is shown with its reason; an open one makes the gate fail."""
    page = render_page(report(verdict(findings=(finding("x"),), skips=(skip(),))))
    assert "Every control is met" in page
    assert "accepted in this test, for a reason" in page
    failed = render_page(report(verdict(findings=(finding("does not <b>rotate</b>"),))))
    assert "The gate fails." in failed
    assert "does not &lt;b&gt;rotate&lt;/b&gt; (fleet key-rotation)" in failed
    assert "<b>rotate" not in failed


def test_page_stands_alone(verdict: Callable[..., Verdict]) -> None:
    """No script and nothing to load."""
    page = render_page(report(verdict()))
    assert not any(word in page for word in ("<script", "<link", "<img", "@import", "url("))
