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
    backtest,
    image,
    metrics_for,
    page,
    read_history,
)
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

    anomalies = json.loads(done.output)["anomalies"]
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

    text = page("<i>", history, metrics, backtest(history, metrics))
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
    (event,) = backtest(history, metrics)
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
