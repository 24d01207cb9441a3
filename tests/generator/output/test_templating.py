"""In a template, a value is encoded for the file's language without being asked to."""

from __future__ import annotations

import pytest
from jinja2 import TemplateAssertionError, UndefinedError

from fleet_iot.generator.output.encoding import EncodingError
from fleet_iot.generator.output.templating import environment, template_names


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [(".py", "x = 'a\"b'"), (".json", 'x = "a\\"b"'), (".sql", "x = 'a\"b'"), (".md", 'x = a"b')],
)
def test_value_is_encoded_by_default(suffix: str, expected: str) -> None:
    """`{{ x }}` alone is a literal of the target language."""
    assert expected == environment(suffix).from_string("x = {{ x }}").render(x='a"b')


@pytest.mark.parametrize(("suffix", "expected"), [(".py", "'<\\xe9>'"), (".json", '"<\\u00e9>"'), (".md", r"\<é>")])
def test_constant_of_a_template_is_encoded_too(suffix: str, expected: str) -> None:
    """It is no text of the template, but a value, and never escaped for HTML."""
    assert expected == environment(suffix).from_string("{{ '<é>' }}").render()


def test_macro_is_encoded_once() -> None:
    """Output of a macro is not encoded again."""
    template = '{% macro pair(x) %}[{{ x }}]{% endmacro %}{{ pair("é") }}'
    assert '["\\u00e9"]' == environment(".json").from_string(template).render()


@pytest.mark.parametrize("name", ["safe", "e", "escape", "forceescape", "tojson", "xmlattr", "urlize", "pprint"])
def test_there_is_no_way_around_the_encoder(name: str) -> None:
    """Jinja's filters that mark text as safe are not there."""
    with pytest.raises(TemplateAssertionError):
        environment(".json").from_string(f"{{{{ x | {name} }}}}")


@pytest.mark.parametrize("source", ["{{ missing }}", "{{ x.missing }}", "{% for a in missing %}{% endfor %}"])
def test_missing_value_is_an_error(source: str) -> None:
    """Nothing is left empty in silence."""
    with pytest.raises(UndefinedError):
        environment(".py").from_string(source).render(x="")


def test_value_without_a_literal_is_an_error() -> None:
    """A quote cannot be placed in AWS IoT SQL."""
    with pytest.raises(EncodingError):
        environment(".sql").from_string("{{ x }}").render(x="a' OR 'b")


def test_all_templates_compile_and_are_short() -> None:
    """Templates place, Python decides: at most 60 lines, but for the runbook, which is prose."""
    for name in template_names():
        suffix = "." + name.removesuffix(".j2").rpartition(".")[2]
        environment(suffix).get_template(name)
        if not name.endswith("RUNBOOK.md.j2"):
            source, _, _ = environment(suffix).loader.get_source(environment(suffix), name)  # type: ignore[union-attr]
            assert len(source.splitlines()) <= 60, name
