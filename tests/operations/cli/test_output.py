"""Output of commands: JSON for programs, lines and tables for people."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fleet_iot.operations.cli.options import SHOWN, emit, emit_errors, emit_rows


@dataclass(frozen=True)
class Row:
    """A row with a part of its own."""

    name: str
    inner: tuple[int, ...] = (1, 2)


def test_a_result_is_one_line_of_json_or_lines_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Dataclasses become objects, also in lists; text shows no control character."""
    emit([Row("a"), Row("b")], [], as_json=True)
    emit({"n": 1}, ["x\u202ey", "a\nb"], as_json=False)
    assert (
        '[{"name": "a", "inner": [1, 2]}, {"name": "b", "inner": [1, 2]}]\nx\\u202ey\na\\nb\n'
        == capsys.readouterr().out
    )


def test_rows_are_a_line_of_json_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Text is built only where it is printed."""
    emit_rows([Row("a"), Row("b")], lambda: pytest.fail("built"), as_json=True)
    assert 2 == len(capsys.readouterr().out.splitlines())


def test_long_lists_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """The first lines go to stderr, with how many more there are."""
    emit_errors([str(number) for number in range(SHOWN + 3)])
    shown = capsys.readouterr()
    assert ("", SHOWN + 1, "and 3 more: see --json") == (
        shown.out,
        len(shown.err.splitlines()),
        shown.err.splitlines()[-1],
    )
