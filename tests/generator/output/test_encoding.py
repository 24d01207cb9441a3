"""Every encoder gives back, decoded, what it was given, and nothing can end the literal that it stands in."""

from __future__ import annotations

import ast
import json
import re
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fleet_iot.generator.diagnostics import is_hidden
from fleet_iot.generator.output.encoding import (
    Code,
    EncodingError,
    Identifier,
    encode_json,
    encode_markdown,
    encode_python,
    encode_sql,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VISIBLE = st.text(st.characters().filter(lambda character: not is_hidden(character)), min_size=1)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
HOSTILE = (
    '"""',
    "'''",
    "\\",
    "\\'",
    "{{ x }}",
    "{% raw %}",
    "${iot:ClientId}",
    "*/",
    "<!--",
    "-->",
    "]]>",
    "`x`",
    "| a | b |",
    "[a](javascript:x)",
    "\u2028",
    "\u202e",
    "\r\n",
    "\0",
    "' OR '1'='1",
    "<script>",
    "&amp;",
    "&#0;",
    "# x",
    "1. x",
    "www.example.com",
)


@pytest.mark.slow
@given(st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.dictionaries(TEXT, inner, max_size=3)))
def test_python_literal_evaluates_to_the_value(value: object) -> None:
    """A value in a declaration is one ASCII literal of exactly that value, on one line."""
    encoded = encode_python(value)
    assert value == ast.literal_eval(encoded)
    assert encoded.isascii()
    assert "\n" not in encoded


@pytest.mark.slow
@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)))
def test_json_decodes_to_the_value(value: object) -> None:
    """A value in a JSON document is one line of ASCII that decodes to the value."""
    encoded = encode_json(value)
    assert value == json.loads(encoded)
    assert encoded.isascii()
    assert "\n" not in encoded


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'\\")))
def test_sql_string_holds_the_value(value: str) -> None:
    """A string in a statement is enclosed in two quotes and contains none."""
    encoded = encode_sql(value)
    assert f"'{value}'" == encoded
    assert 2 == encoded.count("'")


@given(TEXT.filter(lambda text: not re.fullmatch(r"[ -&(-\[\]-~]*", text)))
def test_sql_refuses_what_it_cannot_quote(value: str) -> None:
    """Quotes, backslashes and all beyond printable ASCII have no place in AWS IoT SQL."""
    with pytest.raises(EncodingError):
        encode_sql(value)


@settings(max_examples=500)
@given(VISIBLE | st.text("ab1 \\`*_[]<>|~${}&#;:!()+-=.%/@w", min_size=1))
def test_markdown_shows_the_value(value: str) -> None:
    """Read by a CommonMark parser, in a line and in a table's cell, the text is the value and no markup."""
    encoded = encode_markdown(value)
    line = MarkdownIt("commonmark").render(f"x{encoded}x <code>{encoded}</code>")
    assert f"<p>x{value}x <code>{value}</code></p>\n" == unescape(line)
    table = MarkdownIt("commonmark").enable("table").render(f"| a |\n|---|\n| {encoded} |\n")
    cells = re.findall(r"<td>(.*)</td>", table)
    assert [value] == [unescape(cell) for cell in cells]
    listed = MarkdownIt("commonmark").render(f"- {encoded}\n")
    assert f"<ul>\n<li>{value}</li>\n</ul>\n" == unescape(listed)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Tuas Plant 1, Singapore (A)", "Tuas Plant 1, Singapore (A)"),
        ("+65 6123 4567", "+65 6123 4567"),
        ("plant-operations@example.com", "plant-operations@example.com"),
        ("75 kW: 5 % of ±2 °C & more", "75 kW: 5 % of ±2 °C & more"),
        ("spindle_speed", "spindle_speed"),
        ("1. x", r"1\. x"),
        ("# x", r"\# x"),
        ("- x", r"\- x"),
        ("*x* [a](b)", r"\*x\* \[a\](b)"),
        ("https://x www.x", r"https\://x www\.x"),
        ("{{ x }} {% x %}", r"\{\{ x }} \{\% x %}"),
        ("a | b", r"a \| b"),
        ("<b>&lt;", r"\<b>\&lt;"),
        (Code("dt/mfg/sg-01/+/x"), "`dt/mfg/sg-01/+/x`"),
    ],
)
def test_markdown_escapes_what_would_be_markup_and_nothing_else(value: str, expected: str) -> None:
    """People read the file itself, too."""
    assert expected == encode_markdown(value)


@pytest.mark.parametrize("value", ["", "a b", "a`b", "a|b", "a\nb", "é"])
def test_code_is_a_name(value: str) -> None:
    """Nothing can end the code span that it stands in."""
    with pytest.raises(EncodingError):
        encode_markdown(Code(value))


@pytest.mark.parametrize("value", ["\0", "a\nb", "\u202e", "\u2028", "\ud800", "\u200b", True, None, ("a",)])
def test_markdown_refuses_what_cannot_be_seen(value: object) -> None:
    """Invisible characters, and values that are no text, have no place in a runbook."""
    with pytest.raises(EncodingError):
        encode_markdown(value)


@pytest.mark.parametrize(("value", "expected"), [(95.0, "95"), (-10.0, "-10"), (11.2, "11.2"), (0, "0")])
def test_numbers_are_written_as_operators_do(value: float, expected: str) -> None:
    """Whole numbers carry no point."""
    assert expected == encode_markdown(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", float("nan"), float("inf")])
def test_values_without_a_literal_are_refused(value: object) -> None:
    """Neither Python nor JSON gets a representation that only looks like a value."""
    for encode in (encode_python, encode_json):
        with pytest.raises(EncodingError):
            encode(value)


@pytest.mark.parametrize("name", ["", "a-b", "a b", "1a", "a\n", "à", "a;import os"])
def test_identifier_is_a_python_name(name: str) -> None:
    """Only a name is placed bare."""
    with pytest.raises(EncodingError):
        encode_python(Identifier(name))


def test_hostile_text_is_one_literal() -> None:
    """Text that breaks out of templates elsewhere is data here."""
    for value in HOSTILE:
        assert value == ast.literal_eval(encode_python(value))
        assert value == json.loads(encode_json(value))
