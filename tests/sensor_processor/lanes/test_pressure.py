"""What waits in an outbox: only the tables hold a lane up, and nothing that waits is lost."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from fleet_iot.sensor_processor.adapters import Retry, Unavailable
from fleet_iot.sensor_processor.adapters.archive import unpublished_objects
from fleet_iot.sensor_processor.adapters.store import Store
from fleet_iot.sensor_processor.commit import _folded
from fleet_iot.sensor_processor.planning.items import Device
from fleet_iot.sensor_processor.planning.lane import BACK_PRESSURE_BYTES, BACK_PRESSURE_MS, NOTICES_BYTES, Outbox
from fleet_iot.sensor_processor.planning.planner import take_over

NOW = 1_795_445_340_000
NOTICE = json.dumps({"facility": "sg-01", "device_type": "press-monitor", "text": "x" * 500})


def test_notifications_press_neither_by_age_nor_by_size() -> None:
    """A topic that is down for a day stops no reading; tables that are, do after a minute, or 4 MB."""
    assert not Outbox(since=0, notices=[NOTICE] * 20_000).is_pressing(NOW)
    assert not Outbox(since=NOW - BACK_PRESSURE_MS + 1, items=[b"{}"], notices=[NOTICE] * 20_000).is_pressing(NOW)
    assert Outbox(since=NOW - BACK_PRESSURE_MS, items=[b"{}"]).is_pressing(NOW)
    assert Outbox(since=NOW, items=[b"x" * (BACK_PRESSURE_BYTES + 1)]).is_pressing(NOW)


def test_too_many_notifications_go_to_quarantine_the_oldest_first() -> None:
    """Each with its plant; the others still wait for the topic."""
    notices = [NOTICE.replace("xxxxx", f"{number:05d}") for number in range(NOTICES_BYTES // len(NOTICE) + 3)]
    outbox = Outbox(notices=[*notices])
    excess = outbox.excess_notices()
    assert [] == outbox.excess_notices()
    assert (notices, 3) == ([*excess, *outbox.notices], len(excess))
    (entry,) = unpublished_objects(excess, now=NOW)
    assert entry.key.startswith("quarantine/facility=sg-01/date=2026-11-23/")
    lines = [json.loads(line) for line in gzip.decompress(entry.body).splitlines()]
    assert [("unpublished", "notice")] * 3 == [(line["reason"], line["raw_of"]) for line in lines]


def test_a_table_that_does_not_answer_rejects_no_reading() -> None:
    """One reading raises, so that each is folded by itself; that the table is down then is no reading's fault."""
    calls = []

    def fold(some: Sequence[Any]) -> Any:
        calls.append(some)
        if len(some) > 1:
            raise ZeroDivisionError
        raise Unavailable("reading table-readings: throttled")

    rejected: list[Any] = []
    with pytest.raises(Unavailable):
        _folded(fold, ["a", "b"], rejected)  # type: ignore[list-item]
    assert ([["a", "b"], ["a"]], []) == (calls, rejected)


@pytest.mark.parametrize(("at", "hours", "days"), [("13:50", 2, 1), ("13:10", 1, 1), ("23:45", 2, 2)])
def test_a_device_of_a_lost_lane_keeps_its_hour_and_day(at: str, hours: int, days: int) -> None:
    """It may have readings up to twenty minutes after its description: both hours, and both days, are summed."""
    newest = int(datetime.fromisoformat(f"2026-11-23T{at}").replace(tzinfo=UTC).timestamp() * 1000)
    asked: list[str] = []

    class Client:
        def query(self, **arguments: Any) -> dict[str, Any]:
            asked.append(arguments["ExpressionAttributeValues"][":first"]["S"])
            return {"Items": []}

    device = Device(
        name="d",
        facility="f",
        device_type="t",
        certificate_id="c",
        first_contact=newest,
        last_contact=newest,
        newest_reading=newest,
        version=10**12,
        messages=1,
        last_sequence=None,
    )
    retry = Retry(
        deadline=time.monotonic() + 50,
        is_transient=lambda error: False,
        clock=time.monotonic,
        sleep=lambda seconds: None,
        random=Random(1),
    )
    store = Store(client=Client(), readings_table="r", devices_table="d")
    ((found_hours, found_days),) = store.load_open([device], retry=retry)
    state = take_over(device, hours=found_hours, days=found_days)
    assert (hours, days) == tuple(sum(first.startswith(level) for first in asked) for level in ("minute#", "hour#"))
    assert (newest // 3_600_000 - 1) * 3_600_000 == state.hours_through
    assert (newest // 86_400_000 - 1) * 86_400_000 == state.days_through
