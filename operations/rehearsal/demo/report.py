"""The demo's report: its figures, what is wrong with them, and how a person reads them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

DETECTED_SHARE = 0.9
READINGS_A_FALSE_ANOMALY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one demo run measured, each figure at its own place; see `docs/demo.md` for where."""

    facilities: int
    things: int
    things_published: int
    certificates: int
    resources_applied: int
    readings_published: int
    readings_archived: int
    records_archived: int
    readings_processed: int
    poison_injected: int
    quarantined: int
    redelivered: int
    repeats_published: int
    anomalies_injected: int
    anomalies_within_limits: int
    anomalies_detected: int
    anomalies_false: int
    lost: int
    duplicated: int
    wrong_sums: int
    rule_errors: int
    devices_known: int
    resources_left: int
    private_keys_found: list[str]
    seconds_by_step: dict[str, float]


def faults(report: Report) -> list[str]:
    """What is not as it must be, one sentence each; empty for a clean run."""
    good = report.readings_published - report.poison_injected
    rules = [
        (
            report.things == report.certificates > 0,
            f"{report.things} things but {report.certificates} active certificates",
        ),
        (
            report.devices_known == report.things_published > 0,
            f"{report.things_published} things published but the device table knows {report.devices_known}",
        ),
        (report.readings_processed == good, f"{report.readings_processed} readings processed of {good} good ones"),
        (report.readings_archived == good, f"{report.readings_archived} readings archived of {good} good ones"),
        (report.lost == 0, f"{report.lost} readings lost"),
        (report.duplicated == 0, f"{report.duplicated} readings duplicated"),
        (report.wrong_sums == 0, f"{report.wrong_sums} sums differ from what was sent"),
        (report.redelivered > 0, "no record was delivered twice, so nothing was proven about it"),
        (
            report.quarantined == report.poison_injected > 0,
            f"{report.quarantined} messages in quarantine for {report.poison_injected} poison messages sent",
        ),
        (report.rule_errors == 0, f"{report.rule_errors} messages went to the topic rules' error action"),
        (
            report.anomalies_detected >= DETECTED_SHARE * report.anomalies_injected > 0,
            f"{report.anomalies_detected} of {report.anomalies_injected} anomalies detected",
        ),
        (
            report.anomalies_false * READINGS_A_FALSE_ANOMALY <= good,
            f"{report.anomalies_false} false anomalies in {good} good readings",
        ),
        (report.resources_left == 0, f"{report.resources_left} resources are left after destroy"),
        (not report.private_keys_found, f"private keys found in {', '.join(report.private_keys_found)}"),
    ]
    return [sentence for is_right, sentence in rules if not is_right]


def summary(report: Report) -> str:
    """The report for a person, in lines."""
    rows = [
        ("Fleet", f"{report.facilities} facilities, {report.things} things, {report.certificates} certificates"),
        ("Platform", f"{report.resources_applied} resources applied by Terraform, {report.resources_left} left"),
        (
            "Published",
            f"{report.readings_published} messages by {report.things_published} things over mutual TLS, "
            f"{report.poison_injected} of them poison, {report.repeats_published} sent again",
        ),
        ("Processed", f"{report.readings_processed} readings in DynamoDB, {report.readings_archived} in S3"),
        ("Quarantine", f"{report.quarantined} messages, each with its reason"),
        ("Delivered again", f"{report.redelivered} records: {report.lost} lost, {report.duplicated} duplicated"),
        (
            "Anomalies",
            f"{report.anomalies_detected} of {report.anomalies_injected} detected "
            f"({report.anomalies_within_limits} stayed within their limits), {report.anomalies_false} false",
        ),
        (
            "Private keys",
            "none in repository, synthesised output or state" if not report.private_keys_found else "FOUND",
        ),
        ("Seconds", ", ".join(f"{step} {seconds:.0f}" for step, seconds in report.seconds_by_step.items())),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name.ljust(width)}  {text}" for name, text in rows)
