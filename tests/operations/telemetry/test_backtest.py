"""Backtests run the processor's own detectors over a file and draw what they find."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from io import BytesIO
from operator import sub
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.operations.telemetry.backtest import (
    COLOURS,
    DETECTOR_NAMES,
    DPI,
    FOOT,
    HEAD,
    LINE,
    PANEL,
    WIDTH,
    Fault,
    Found,
    backtest,
    image,
    metrics_for,
    page,
    read_history,
)
from fleet_iot.operations.telemetry.judge import judged_of, parse_fault
from tests.places import SAMPLE


def write(path: Path, *, rows: int = 600, spike: int = 500, name: str = "temperature") -> Path:
    """A history with one value far outside, which is labelled."""
    dice = random.Random(1)
    values = [f"{dice.gauss(60, 1):.2f}" for _ in range(rows)]
    values[spike] = "97.5"
    lines = [f"{1_795_445_343 + 10 * place},{value},{int(place == spike)}" for place, value in enumerate(values)]
    path.write_text("\n".join([f"timestamp,{name},anomaly", *lines]) + "\n")
    return path


def invoke(*arguments: str, folder: Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(main, ["backtest", *arguments])


def test_what_is_found_is_drawn_and_listed(tmp_path: Path) -> None:
    """The page is written, with a mark and a row for each anomaly; the command says where it is."""
    done = invoke(str(write(tmp_path / "own.csv")), folder=tmp_path)

    assert (0, True) == (done.exit_code, "drawn in build/backtest/own.html" in done.output)
    text = (tmp_path / "build" / "backtest" / "own.html").read_text()
    assert text.count("<circle") == text.count("is unusual for this device") // 2 == 1
    assert 'fill="#fff3c4"' in text and "<script" not in text


def test_a_device_type_gives_limits_and_detectors(tmp_path: Path) -> None:
    """With the manifest's device type the value is beyond its limit; its machine is not known for a week yet."""
    file = write(tmp_path / "own.csv", name="oil")
    done = invoke(
        *(str(file), "--device-type", "press-monitor", "--column", "temperature=oil", "--json"),
        *("--output", str(tmp_path / "page.html")),
        folder=SAMPLE,
    )

    anomalies = json.loads(done.stdout)["anomalies"]
    assert [("limits", 500)] == [(each["detector"], each["place"]) for each in anomalies]
    assert "temperature 97.5 celsius is above its limit of 95" == anomalies[0]["reason"]


def test_faults_are_told_with_their_line(tmp_path: Path) -> None:
    """A cell that is no number, an unknown column, an unknown type: each in one sentence."""
    file = tmp_path / "bad.csv"
    file.write_text("time,a\n2026-11-23T14:49:03,1\n2026-11-23T14:49:13,much\n")

    assert "bad.csv:3: a 'much' is no number" in invoke(str(file), folder=tmp_path).output
    assert "bad.csv has no column 'x'" in invoke(str(file), "--column", "a=x", folder=tmp_path).output
    assert "no device type 'pres'" in invoke(str(file), "--device-type", "pres", folder=SAMPLE).output


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("a;b\n1;2\n3;\n", (0, 10_000)),
        ("time,a\n1795445343,1\n1795445353,2\n", (1_795_445_343_000, 1_795_445_353_000)),
        ("Timestamp,a\n2026-11-23 14:49:13,2\n2026-11-23T14:49:03+00:00,1\n", (1_795_445_343_000, 1_795_445_353_000)),
    ],
)
def test_times_are_read_as_they_come(text: str, times: tuple[int, ...], tmp_path: Path) -> None:
    """Seconds, dates, no times at all; rows are put in order, and an empty cell is no value."""
    (tmp_path / "own.csv").write_text(text)
    history = read_history(tmp_path / "own.csv", columns={}, interval_s=10)

    assert times == history.times
    assert [1.0, 2.0] == sorted(history.rows[0].values()) + sorted(history.rows[1].values()) or "b" in history.metrics


def test_an_empty_file_is_a_fault(tmp_path: Path) -> None:
    """There is nothing to draw."""
    (tmp_path / "own.csv").write_text("time,a\n")
    with pytest.raises(OutcomeError):
        read_history(tmp_path / "own.csv", columns={}, interval_s=10)


def test_names_from_the_file_are_text(tmp_path: Path) -> None:
    """A column's name cannot become part of the page."""
    history = read_history(write(tmp_path / "own.csv", name="<b>x"), columns={}, interval_s=10)
    metrics = metrics_for(history, None, detector="rate")

    text = page("<i>", history, metrics, backtest(history, metrics).found)
    assert "<b>x" not in text and "<i>" not in text


def colours(png: bytes) -> tuple[tuple[int, int], dict[tuple[int, ...], int]]:
    """The size of a picture and how many points it has of each colour."""
    with Image.open(BytesIO(png)) as picture:
        points = picture.convert("RGB")
        return points.size, {colour: count for count, colour in points.getcolors(1 << 24)}


@pytest.mark.slow
def test_a_picture_shows_events_from_beginning_to_end(tmp_path: Path) -> None:
    """By its name the output is a PNG; an event is shaded as long as it lasts, and its reason is one line more."""
    done = invoke(str(write(tmp_path / "own.csv")), "--out", str(tmp_path / "own.png"), folder=tmp_path)
    assert (0, True) == (done.exit_code, "drawn in" in done.output)

    labelled = read_history(tmp_path / "own.csv", columns={}, interval_s=10)
    history = replace(labelled, labelled=frozenset())  # whose shade would lie below the event's
    metrics = metrics_for(history, None, detector=None)
    (event,) = backtest(history, metrics).found
    shade = [255 - 0.25 * (255 - part) for part in bytes.fromhex(COLOURS["context"][1:])]
    last = history.times[-1]
    pictures = [
        colours(image("own", history, metrics, found))
        for found in ([], [replace(event, ended=event.time + 1)], [replace(event, ended=last)])
    ]

    assert colours((tmp_path / "own.png").read_bytes())[0] == pictures[1][0]
    assert pictures[1][0][1] - pictures[0][0][1] == pytest.approx(LINE * DPI, abs=1)
    none, short, long = (
        sum(count for colour, count in counts.items() if max(map(abs, map(sub, colour, shade))) < 3)
        for _, counts in pictures
    )
    assert none < short / 5 < long / 25


@pytest.mark.slow
def test_a_picture_takes_any_name_and_gaps(tmp_path: Path) -> None:
    """A column's name is text, whatever signs of a formula it has; a row without a value is a gap."""
    file = tmp_path / "own.csv"
    file.write_text("$x_{^$,b\n" + "1,2\n,3\n" * 20)
    history = read_history(file, columns={}, interval_s=10)
    metrics = metrics_for(history, None, detector=None)

    (width, height), _ = colours(image("a $\\frac{", history, metrics, []))
    assert (width, height) == (round(WIDTH * DPI), pytest.approx((HEAD + 2 * PANEL + FOOT) * DPI, abs=1))


def test_an_end_and_the_worst_of_an_event_belong_to_it(tmp_path: Path) -> None:
    """An event that began as a warning and became critical is listed once, as critical, until it is over."""
    values = [70.0] * 5 + [96.0, 120.0, 120.0] + [70.0] * 20
    file = tmp_path / "own.csv"
    file.write_text("time,temperature\n" + "".join(f"{10 * place},{value}\n" for place, value in enumerate(values, 1)))
    done = invoke(str(file), "--device-type", "press-monitor", "--detector", "limits", "--json",
                  "--output", str(tmp_path / "page.html"), folder=SAMPLE)  # fmt: skip

    (found,) = json.loads(done.output)["anomalies"]
    assert (found["place"], found["severity"], found["ended"]) == (5, "critical", 90_000)
    assert (tmp_path / "page.html").read_text().count('<rect class="event"') == 1


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    """Only a page and a picture can be drawn."""
    done = invoke(str(write(tmp_path / "own.csv")), "--out", "own.jpg", folder=tmp_path)
    assert (2, True) == (done.exit_code, "--out 'own.jpg': say FILE.html or FILE.png" in done.output)


def test_every_detector_has_its_colour() -> None:
    """The picture knows all detectors that a metric may name."""
    assert set(DETECTOR_NAMES) == set(COLOURS)


def machine_days(path: Path, *, days: float, interval_s: int = 60) -> Path:
    """A machine of two metrics, of which one follows the other; on the ninth day it does not for four hours."""
    dice, slow, lines = random.Random(3), 0.0, ["time,load,heat"]
    for place in range(int(days * 86_400 / interval_s)):
        time = START + place * interval_s
        slow = 0.98 * slow + dice.gauss(0, 0.4)
        load = 50.0 + 5.0 * slow
        fault = 9.0 * 86_400 <= time - START < 9.0 * 86_400 + 14_400
        heat = 20.0 + 0.5 * load + dice.gauss(0, 0.3) + 8.0 * fault
        lines.append(f"{time},{load:.2f},{heat:.2f}")
    path.write_text("\n".join(lines) + "\n")
    return path


START = 1_793_491_200  # 2026-11-01
FAULT = "2026-11-10T00:00/2026-11-10T04:00"


def test_the_trade_off_is_shown_before_switching_on(tmp_path: Path) -> None:
    """Events, marked faults and their delays at each budget; what is in no fault is to be judged, not false."""
    file = str(machine_days(tmp_path / "own.csv", days=10.5))
    marks = ("--fault", f"{FAULT} heat", "--fault", "2026-11-02T00:00/2026-11-02T01:00", "--budgets", "0.1,10")
    done = invoke(file, "--detector", "machine", *marks, folder=tmp_path)
    assert 0 == done.exit_code, done.output
    lines = done.output.splitlines()
    rows = [line.split() for line in lines if line.startswith(("0.1 ", "10 "))]

    assert [["1", "of", "1"]] * 2 == [row[4:7] for row in rows]
    assert all(row[8:] in (["s"], ["min"]) for row in rows), rows
    assert any("learned: 7.0 days" in line and "judged: the 3.5 days after it" in line for line in lines)
    assert any(line.startswith("1 fault of that time: the machine detector reports nothing") for line in lines)
    assert "fault 2)" in done.output
    text = (tmp_path / "build" / "backtest" / "own.html").read_text()
    assert (3, True) == (text.count('<rect class="fault"'), "<td>1 of 1</td>" in text and "<td>fault 2</td>" in text)


def test_a_history_that_is_too_short_is_not_judged(tmp_path: Path) -> None:
    """The machine detector learned to the end: exit 1, with what to do; what else was found is drawn."""
    file = str(machine_days(tmp_path / "own.csv", days=3))
    done = invoke(file, "--detector", "machine", folder=tmp_path)

    assert 1 == done.exit_code
    assert "cannot be judged: it learns for 7 days, and of this history of 3.0 days 3.0 count" in done.output
    assert (tmp_path / "build" / "backtest" / "own.html").exists()
    known = json.loads(invoke(file, "--detector", "machine", "--json", folder=tmp_path).output.splitlines()[0])
    assert (None, []) == (known["judged_from"], known["judged"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fault", "2026-11-24/2026-11-23"), "ends before it begins"),
        (("--fault", "2025-01-01/2025-01-02"), "is outside the history"),
        (("--fault", "2026-11-23T15:00"), "is no time from begin to end"),
        (("--fault", "2026-11-23/2026-11-24 oil"), "there is no metric 'oil'"),
        (("--budgets", "1"), "no metric has the machine detector"),
        (("--detector", "machine", "--budgets", "1,nan"), "each is a number from 0.01 to 1,000"),
    ],
)
def test_bad_marks_and_budgets_are_usage(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """Each in one sentence with a hint, before anything is run."""
    done = invoke(str(write(tmp_path / "own.csv")), *options, folder=tmp_path)
    assert (2, True) == (done.exit_code, words in done.output), done.output


def test_marked_faults_are_read_as_people_write_times(tmp_path: Path) -> None:
    """With a space or a zone, in seconds, and with a metric whose name has spaces."""
    history = read_history(write(tmp_path / "own.csv", name="oil temp"), columns={}, interval_s=10)

    def parsed(text: str) -> tuple[int, int, str | None]:
        fault = parse_fault(text, history, metrics=["oil temp"])
        return fault.begin, fault.end, fault.metric

    begin, end = 1_795_446_000_000, 1_795_446_600_000
    assert (begin, end, None) == parsed("2026-11-23T15:00/2026-11-23T15:10")
    assert (begin, end, "oil temp") == parsed("2026-11-23 22:00+07:00/2026-11-23 15:10 oil temp")
    assert (begin, end, "oil temp") == parsed("1795446000/1795446600 oil temp")


def test_an_event_is_of_a_fault_that_it_overlaps_or_follows_at_once() -> None:
    """In the fault's metric, also where that joined later; an event that ran before has a negative delay."""
    minute = 60_000
    event = Found(place=0, time=10 * minute, metric="a", detector="machine", value=1.0, score=1.0, reason="",
                  severity="warning", ended=30 * minute, also=((20 * minute, "b"),))  # fmt: skip

    def delays(begin: int, end: int, metric: str | None = None) -> tuple[float | None, int]:
        faults = [Fault(begin=begin * minute, end=end * minute, metric=metric)]
        judged = judged_of("machine", 1.0, [event], faults, since=0, until=14 * 86_400_000)
        return judged.delays_min[0], judged.to_be_judged

    assert (5.0, 0) == delays(5, 40)
    assert (15.0, 0) == delays(5, 40, "b")
    assert (None, 1) == delays(5, 40, "c")
    assert (-15.0, 0) == delays(25, 40)
    assert (None, 1) == delays(31, 40)
    assert (9.0, 0) == delays(1, 1)
    assert (None, 1) == delays(-10, -6)
    assert 0.5 == judged_of("machine", 1.0, [event], [], since=0, until=14 * 86_400_000).events_a_week
