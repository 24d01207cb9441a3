"""Calls are spaced at their rate: never a burst, shared by all runs, slower after a throttle."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from benchmarks.iot_service import Buckets
from fleet_iot.generator.diff.calls import QUOTAS
from fleet_iot.operations.registry.calls import AHEAD_S, Pacer, calls_for, least_seconds, read_quotas


class Clock:
    """A time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def pacer(clock: Clock, path: Path | None = None, **rates: float) -> Pacer:
    return Pacer(path, account="1/r", rates=rates, clock=clock, sleep=clock.sleep)


def times(paced: Pacer, clock: Clock, count: int) -> list[float]:
    """When each of so many calls is let through."""
    found = []
    for _ in range(count):
        paced.acquire("A")
        found.append(clock.now)
    return found


@pytest.mark.parametrize("rate", [9.5, 14.25, 95.0, 1_000.0])
def test_calls_keep_their_rate_and_never_burst(rate: float) -> None:
    """In any span no more than its share, and what runs ahead; over all, no fewer."""
    clock = Clock()
    found = times(pacer(clock, A=rate), clock, 400)
    for span in (1, 10, 100):
        least = min(later - earlier for earlier, later in zip(found, found[span:], strict=False))
        assert span / rate - AHEAD_S - 1 / rate <= least + 1e-6
    assert found[-1] - found[0] <= 400 / rate


def test_a_quota_service_never_throttles_it() -> None:
    """Through pauses of any length, against a bucket of one second's burst."""
    clock, moments = Clock(), random.Random(7)
    quota = 15.0
    buckets = Buckets({"A": quota}, scale=1)
    paced = pacer(clock, A=quota * 0.95)
    for _ in range(2_000):
        paced.acquire("A")
        assert buckets.take("A", clock.now)
        if moments.random() < 0.01:
            clock.now += moments.uniform(0, 5)


def test_a_service_without_pacing_throttles() -> None:
    """The bucket lets one second's calls through at once, then no more: the measure has teeth."""
    buckets = Buckets({"A": 15}, scale=1)
    assert 15 == sum(buckets.take("A", 1.0) for _ in range(40))
    assert (40, 25) == (buckets.calls["A"], buckets.throttles["A"])


def test_parallel_runs_share_the_rate(tmp_path: Path) -> None:
    """Two pacers on one file let through together what one may."""
    clock = Clock()
    both = [pacer(clock, tmp_path / "rates.sqlite", A=10) for _ in range(2)]
    start = clock.now
    for number in range(200):
        both[number % 2].acquire("A")
    assert clock.now - start == pytest.approx(200 / 10, abs=0.3)


def test_accounts_do_not_share(tmp_path: Path) -> None:
    """Another account has quotas of its own."""
    clock = Clock()
    path = tmp_path / "rates.sqlite"
    one = pacer(clock, path, A=10)
    other = Pacer(path, account="2/r", rates={"A": 10}, clock=clock, sleep=clock.sleep)
    start = clock.now
    for _ in range(50):
        one.acquire("A")
        other.acquire("A")
    assert clock.now - start == pytest.approx(5, abs=0.3)


def test_a_throttle_slows_down_and_wears_off() -> None:
    """To 80 %, once a second however many there are, and back by a hundredth a second."""
    clock = Clock()
    paced = pacer(clock, A=100)
    times(paced, clock, 10)
    for _ in range(5):
        paced.throttled("A")
    start = clock.now
    times(paced, clock, 80)
    assert 0.9 < clock.now - start < 1.1
    clock.now += 60
    start = clock.now
    times(paced, clock, 100)
    assert 0.9 < clock.now - start < 1.02
    assert 5 == paced.throttles["A"]


def test_threads_wait_in_line() -> None:
    """In real time: eight threads make forty calls at 200 a second in no less than a fifth of a second."""
    paced = Pacer(None, account="1", rates={"A": 200})
    start = time.monotonic()
    threads = [threading.Thread(target=lambda: [paced.acquire("A") for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 - AHEAD_S - 0.01 <= time.monotonic() - start
    assert 40 == paced.calls["A"]


def test_other_apis_are_not_held_up() -> None:
    """Calls to an API without a quota that counts do not wait."""
    clock = Clock()
    paced = pacer(clock, A=1)
    for _ in range(100):
        paced.acquire("B")
    assert 1_000_000.0 == clock.now


class FakeQuotas:
    """A Service Quotas that has these, or refuses."""

    def __init__(self, *quotas: dict[str, object], refuses: bool = False) -> None:
        self._quotas, self._refuses = quotas, refuses

    def get_paginator(self, operation: str) -> FakeQuotas:
        assert "list_service_quotas" == operation
        return self

    def paginate(self, **arguments: str) -> list[dict[str, object]]:
        assert {"ServiceCode": "iotcore"} == arguments
        if self._refuses:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListServiceQuotas")
        return [{"Quotas": list(self._quotas)}]


def test_quotas_are_read_live() -> None:
    """Quotas of the account take precedence, the table gives the others, and the pace stays 5 % below."""
    quotas = read_quotas(
        FakeQuotas(
            {"QuotaName": "CreateThing API TPS", "Value": 500.0}, {"QuotaName": "Rules per account", "Value": 1_000.0}
        )
    )
    assert (True, 500.0, 15.0) == (
        quotas.is_live,
        quotas.per_second["CreateThing"],
        quotas.per_second["CreateCertificateFromCsr"],
    )
    assert 475.0 == quotas.rates()["CreateThing"]


def test_quotas_that_cannot_be_read_are_the_defaults() -> None:
    """A role without the right still onboards."""
    quotas = read_quotas(FakeQuotas(refuses=True))
    assert (False, dict(QUOTAS)) == (quotas.is_live, dict(quotas.per_second))


def test_calls_and_time_of_a_list() -> None:
    """Four calls a device, a fifth with the policy on the certificate; the slowest API gives the time."""
    calls = calls_for(devices=1_000, certificates=250, policy_on="group", groups=2)
    assert (4_002, 750) == (sum(calls.values()), calls["CreateCertificateFromCsr"])
    assert (50.0, "CreateCertificateFromCsr") == least_seconds(calls, QUOTAS)
    assert 5_000 == sum(calls_for(devices=1_000, certificates=0, policy_on="certificate", groups=2).values())
    assert {} == calls_for(devices=0, certificates=0, policy_on="group", groups=2)
