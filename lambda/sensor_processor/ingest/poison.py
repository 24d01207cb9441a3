"""Why a record is poison: the reason codes of quarantine, and the error that carries one."""

from __future__ import annotations

REASONS = frozenset(
    {
        "base64",
        "device_type",
        "empty",
        "envelope",
        "environment",
        "future",
        "hostile_text",
        "identity",
        "ids",
        "malformed",
        "metric_name",
        "metrics",
        "minute_full",
        "old",
        "readings",
        "sequence",
        "too_deep",
        "too_large",
        "unit",
        "utf8",
        "value",
    }
)
"""Every reason code that quarantine knows; docs/message.md says what each means."""


class PoisonReading(Exception):  # noqa: N818 - the domain's word
    """A record that can never be processed; `reason` is one of REASONS, `detail` is for the person who looks at it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
